"""HTTP/1.1 byte by byte: what is sent is what the case says, what comes back is kept as it came."""
import select
import socket
import time

from .report import Failure

ANSWER_TIMEOUT_S = 10
CLOSE_TIMEOUT_S = 3


class NoAnswer(Failure):
    """The server closed the connection, or kept silent, in place of a response."""


class Response:
    """One final response, with the interim ones that came before it."""

    def __init__(self, status, fields, interim):
        self.status = status
        self.fields = fields
        self.interim = interim
        self.content = b""
        self.took_ms = 0

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def field(self, name):
        """The value of a field, several lines joined as RFC 9110 §5.2 says; None when absent."""
        values = self.all(name)
        return ", ".join(values) if values else None


class Connection:
    """One TCP connection to the server."""

    def __init__(self, address):
        self._socket = socket.create_connection(address, ANSWER_TIMEOUT_S)
        self._buffer = b""

    def send(self, data):
        """Sends; a peer that has closed or reads no more is no failure of the sender."""
        try:
            self._socket.sendall(data)
        except OSError:
            pass

    def close(self):
        self._socket.close()

    def has_answer(self, timeout_s):
        """Waits for the server to say something, or to close."""
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def closed_by_server(self):
        """Waits for the end of the connection."""
        self._socket.settimeout(CLOSE_TIMEOUT_S)
        try:
            while data := self._socket.recv(65536):
                self._buffer += data
            return True
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True

    def head(self):
        """Reads one response head; returns it whether it is interim or final."""
        return self._head()

    def response(self, method, heads=()):
        """Reads up to the final response; `heads` were read before."""
        started = time.monotonic()
        heads = list(heads) or [self._head()]
        while heads[-1][0] < 200 and heads[-1][0] != 101:
            heads.append(self._head())
        *interim, head = heads
        answer = Response(*head, interim)
        answer.took_ms = int((time.monotonic() - started) * 1000)
        if method != "HEAD" and head[0] not in (204, 304):
            answer.content = self._content(answer)
        return answer

    def _head(self):
        lines = []
        while (line := self._line()) or not lines:
            if line:
                lines.append(line.decode("latin-1"))
        version, _, rest = lines[0].partition(" ")
        status = rest.partition(" ")[0]
        if not version.startswith("HTTP/") or not status.isdigit():
            raise Failure(f"not a status line: {lines[0]!r}")
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise Failure(f"not a header line: {line!r}")
            fields.append((name, value.strip()))
        return int(status), fields

    def _content(self, answer):
        if (answer.field("Transfer-Encoding") or "").lower() == "chunked":
            return self._chunked()
        length = answer.field("Content-Length")
        if length is None:
            return self._rest()
        return self._exactly(int(length))

    def _chunked(self):
        content = b""
        while length := int(self._line().partition(b";")[0], 16):
            content += self._exactly(length)
            self._line()
        while self._line():
            pass
        return content

    def _rest(self):
        while self._receive():
            pass
        content, self._buffer = self._buffer, b""
        return content

    def _line(self):
        while b"\r\n" not in self._buffer:
            if not self._receive():
                raise NoAnswer("the connection was closed without a whole answer")
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _exactly(self, length):
        while len(self._buffer) < length:
            if not self._receive():
                raise Failure(f"the content ended after {len(self._buffer)} of {length} bytes")
        content, self._buffer = self._buffer[:length], self._buffer[length:]
        return content

    def _receive(self):
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        try:
            data = self._socket.recv(262144)
        except TimeoutError:
            raise NoAnswer(f"no answer within {ANSWER_TIMEOUT_S} s") from None
        except ConnectionResetError:
            raise NoAnswer("the connection was reset without an answer") from None
        self._buffer += data
        return data
