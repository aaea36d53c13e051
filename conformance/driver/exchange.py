"""Sends the exchanges of a case and holds the answers against what is expected."""
import re
import time
import urllib.parse

from . import words
from .report import Failure
from .wire import Connection, NoAnswer, Response

PATIENCE_S = 5
PAUSE_S = 0.02


class Request:
    """The request of an exchange, as bytes and as ways of sending them."""

    def __init__(self, lines, variables):
        self.ways = {}
        self.before, self.head, self.content = b"", [], b""
        first, *rest = lines
        self.method, target = first.split(" ", 1)
        for line in rest:
            if line.startswith("@"):
                self._directive(line, variables)
            else:
                self.head.append(words.to_bytes(line, variables))
        self._defaults(words.to_bytes(target, variables), variables)

    def _directive(self, line, variables):
        name, _, value = line[1:].partition(" ")
        if name == "before":
            self.before = words.to_bytes(value, variables)
        elif name == "body":
            self.content = words.to_bytes(value, variables)
        elif name == "chunks":
            parts = words.to_bytes(value, variables).split(b"|")
            self.content += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        elif name == "end":
            trailer = words.to_bytes(value, variables)
            self.content += b"0\r\n" + (trailer + b"\r\n" if trailer else b"") + b"\r\n"
        else:
            self.ways[name] = value

    def _defaults(self, target, variables):
        names = {line.partition(b":")[0].strip().lower() for line in self.head}
        version = b"" if target.count(b" ") else b" HTTP/1.1"
        self.start = self.method.encode() + b" " + target + version
        if b"host" not in names and "no-host" not in self.ways:
            self.head.insert(0, b"Host: " + variables["host"].encode())
        measured = {b"content-length", b"transfer-encoding"} & names
        if not measured and (self.content or self.method in ("POST", "PATCH", "PUT")):
            self.head.append(b"Content-Length: %d" % len(self.content))

    def head_bytes(self):
        return self.before + b"\r\n".join([self.start, *self.head, b"", b""])


class Dialogue:
    """The exchanges of one case with one server, and what they captured."""

    def __init__(self, address, variables):
        self._address = address
        self._variables = dict(variables)
        self._last = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._last is not None:
            self._last.close()

    def run(self, exchange):
        """Does one exchange. Raises `Failure` with the line of the case when it differs."""
        request = Request(exchange.request, self._variables)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._once(request, exchange)
            except Failure as why:
                if "eventually" not in request.ways or time.monotonic() > deadline:
                    raise Failure(f"line {exchange.line}, {request.method}: {why}") from None
                time.sleep(PAUSE_S)

    def _once(self, request, exchange):
        connection = self._connection(request)
        answer, heads = None, []
        awaited = [status for status in (100, 104) if f"after-{status}" in request.ways]
        if awaited:
            connection.send(request.head_bytes())
            while not heads or heads[-1][0] < 200 and heads[-1][0] not in awaited:
                heads.append(connection.head())
            if heads[-1][0] in awaited:
                connection.send(request.content)
        else:
            connection.send(request.head_bytes() + request.content)
        if "cut" in request.ways:
            connection.close()
            return
        try:
            answer = connection.response(request.method, heads)
        except NoAnswer:
            if not any("none" in line.split() for line in exchange.expected):
                raise
        for line in exchange.expected:
            self._expect(line, answer, connection)

    def _connection(self, request):
        if "same" in request.ways and self._last is not None:
            return self._last
        if self._last is not None:
            self._last.close()
        self._last = Connection(self._address)
        return self._last

    def _expect(self, line, answer, connection):
        if all(re.fullmatch(r"\dxx|\d{3}|none", word) for word in line.split()):
            expect_status(line.split(), answer)
        elif line == "@closed":
            if not connection.closed_by_server():
                raise Failure("the connection was left open")
        elif answer is not None and line.startswith("@"):
            self._expect_content(line, answer)
        elif answer is not None:
            self._expect_field(line, answer)

    def _expect_content(self, line, answer):
        name, _, value = line[1:].partition(" ")
        if name == "body":
            expect_value("content", answer.content.decode("latin-1"), value, self._variables)
        elif name == "length":
            if len(answer.content) != int(value):
                raise Failure(f"{len(answer.content)} bytes of content, not {value}")
        elif name == "within":
            if answer.took_ms > int(value.split()[0]):
                raise Failure(f"answered after {answer.took_ms} ms, not within {value}")
        elif name == "interim":
            self._expect_interim(value, answer)
        elif name == "no-interim":
            if answer.interim:
                raise Failure(f"a {answer.interim[0][0]} came before the answer")
        else:
            raise Failure(f"no such expectation: @{name}")

    def _expect_interim(self, value, answer):
        status, _, field = value.partition(" ")
        heads = [head for head in answer.interim if head[0] == int(status)]
        if not heads:
            raise Failure(f"no {status} came before the answer")
        for head in heads if field else []:
            self._expect_field(field, Response(*head, []))

    def _expect_field(self, line, answer):
        if line.startswith("!"):
            if answer.field(line[1:]) is not None:
                raise Failure(f"there is {line[1:]}: {answer.field(line[1:])}")
            return
        name, arrow, variable = line.partition(" -> ")
        if arrow:
            self._capture(name, variable, answer)
            return
        name, colon, value = line.partition(":")
        found = answer.field(name)
        if found is None:
            raise Failure(f"{answer.status} without {name}{said(answer)}")
        if colon:
            expect_value(name, found, value.strip(), self._variables)

    def _capture(self, name, variable, answer):
        value = answer.field(name)
        if value is None:
            raise Failure(f"{answer.status} without {name}")
        if name == "Location":
            base = f"http://{self._variables['host']}{self._variables['base']}"
            whole = urllib.parse.urljoin(base, value)
            self._variables[variable + "_url"] = whole
            value = urllib.parse.urlsplit(whole).path
        self._variables[variable] = value


def expect_status(wanted, answer):
    """`204`, `400 404` (one of them), `4xx`, `none` (the connection just ends)."""
    if answer is None:
        return
    status = str(answer.status)
    if not any(status == want or want == status[0] + "xx" for want in wanted):
        raise Failure(f"answered {status}, not {' or '.join(wanted)}{said(answer)}")


def expect_value(name, found, wanted, variables):
    """Equal to the text, or matched as a whole by a pattern after `~`."""
    if wanted.startswith("~"):
        pattern = words.to_pattern(wanted[1:].strip(), variables)
        if not re.fullmatch(pattern, found, re.S):
            raise Failure(f"{name} is {found[:200]!r}, not like {pattern!r}")
    elif found != (whole := words.to_bytes(wanted, variables).decode("latin-1")):
        raise Failure(f"{name} is {found[:200]!r}, not {whole!r}")


def said(answer):
    text = answer.content[:120].decode("latin-1").strip()
    return f" ({text!r})" if text else ""
