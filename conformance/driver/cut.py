"""A TCP proxy between a client and the server that stops in the middle, at an exact byte."""
import select
import socket
import struct
import threading

BLOCK_BYTES = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CutProxy:
    """Passes bytes on to the server until `limit_bytes` have gone up, then cuts or holds.

    `cut`: the connection is reset, once; later connections pass freely.
    `hold`: nothing more goes up or comes back until `release`; both ends stay connected.
    `reached` is set when that happens.
    """

    def __init__(self, target_url, limit_bytes=None, hold=False):
        host, _, rest = target_url.removeprefix("http://").partition(":")
        port, _, self._path = rest.partition("/")
        self._target = (host, int(port))
        self._limit_bytes = limit_bytes
        self._hold = hold
        self._sent_bytes = 0
        self._state = threading.Lock()
        self.reached = threading.Event()
        self._resumed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/{self._path}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._resumed.set()
        self._listener.close()

    def release(self, limit_bytes=None):
        """Goes on: with a new limit counted from now, or freely."""
        with self._state:
            self._sent_bytes = 0
            self._limit_bytes = limit_bytes
            self.reached.clear()
            self._resumed.set()
            self._resumed = threading.Event()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with client:
            try:
                server = socket.create_connection(self._target, 10)
            except OSError:
                return
            with server:
                try:
                    self._pump(client, server)
                except OSError:
                    return

    def _pump(self, client, server):
        while True:
            readable, _, _ = select.select([client, server], [], [])
            if server in readable:
                block = server.recv(BLOCK_BYTES)
                if not block:
                    return
                client.sendall(block)
            if client in readable:
                block = client.recv(BLOCK_BYTES)
                if not block:
                    return
                passing_bytes, resumed = self._admit(block)
                server.sendall(block[:passing_bytes])
                if resumed is None:
                    continue
                self.reached.set()
                if not self._hold:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    return
                resumed.wait()
                server.sendall(block[passing_bytes:])

    def _admit(self, block):
        """How much of a block may pass, and at the limit the event to wait for (else None)."""
        with self._state:
            if self._limit_bytes is None or self._sent_bytes + len(block) < self._limit_bytes:
                self._sent_bytes += len(block)
                return len(block), None
            passing_bytes = self._limit_bytes - self._sent_bytes
            self._limit_bytes = None
            return passing_bytes, self._resumed
