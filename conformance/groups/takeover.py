"""Requests that meet at one upload: hanging, racing, repeated, many at once."""
import threading
import time
import urllib.parse

from driver import http
from driver.files import MIB, SourceFile
from driver.report import expect
from driver.wire import Connection

TAKEOVER_MS = 100
PATIENCE_MS = 1000
ROUNDS = 5
RACES = 20
READERS = 100


def run(bench):
    with bench.server("takeover") as server:
        hung = [("HEAD", head), ("PATCH", patch_from_head), ("DELETE", delete)]
        for method, request in hung:
            bench.check(f"{method} is answered while a PATCH hangs", while_hanging,
                        server, request, clauses=["peer-8"])
        for name, check, clauses in [
            ("a hanging PATCH burns no CPU, nor does who waits for it", idle, ["peer-8"]),
            ("two PATCHes at one offset never mix", race, ["peer-7"]),
            ("a PATCH whose answer was lost", lost_answer, ["peer-10"]),
            ("a hundred downloads while an upload goes on", crowd, []),
            ("a reader that stands still holds nobody up", slow_reader, []),
        ]:
            bench.check(name, check, bench, server, clauses=clauses)


def connect(server):
    parts = urllib.parse.urlsplit(server.url)
    return Connection((parts.hostname, parts.port))


def patch_head(url, offset, length, *more):
    parts = urllib.parse.urlsplit(url)
    lines = [f"PATCH {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Tus-Resumable: 1.0.0",
             f"Upload-Offset: {offset}", "Content-Type: application/offset+octet-stream",
             f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


def hang(server, url, sent, length):
    """A PATCH that the server has begun to read, and that never goes on."""
    connection = connect(server)
    connection.send(patch_head(url, 0, length, "Expect: 100-continue"))
    status, _ = connection.head()
    expect(status == 100, f"the server answered {status}, not 100, before the content")
    connection.send(sent)
    return connection


def patch(url, offset, content):
    headers = http.TUS | {
        "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"
    }
    return http.ask("PATCH", url, headers, content)


def while_hanging(server, request):
    """The best of some rounds says what the server can do, the worst what a client suffers."""
    took_ms = []
    for _ in range(ROUNDS):
        url = http.create(server.url, 10)
        connection = hang(server, url, b"01234", 10)
        started = time.monotonic()
        request(url)
        took_ms.append(int((time.monotonic() - started) * 1000))
        connection.close()
    expect(min(took_ms) <= TAKEOVER_MS, f"answered after {min(took_ms)} ms at best")
    expect(max(took_ms) <= PATIENCE_MS, f"answered after {max(took_ms)} ms at worst")
    return f"{min(took_ms)} to {max(took_ms)} ms"


def head(url):
    expect(http.offset(url) in range(6), "HEAD tells an offset that was never reached")


def patch_from_head(url):
    offset = http.offset(url)
    status, _, _ = patch(url, offset, b"0123456789"[offset:])
    expect(status == 204, f"PATCH at {offset}, as HEAD said, answered {status}")
    _, _, content = http.ask("GET", url)
    expect(content == b"0123456789", f"the upload is {content!r}")


def delete(url):
    status, _, _ = http.ask("DELETE", url, http.TUS)
    expect(status == 204, f"DELETE answered {status}")


def idle(bench, server):
    """Two seconds of waiting are the measure here, not a way to meet the server."""
    urls = [http.create(server.url, 10) for _ in range(3)]
    hanging = [hang(server, url, b"01234", 10) for url in urls]
    before = server.cpu_s()
    time.sleep(2)
    used_s = server.cpu_s() - before
    for connection in hanging:
        connection.close()
    expect(used_s < 0.2, f"{used_s:.2f} s of CPU in 2 s of waiting")


def race(bench, server):
    """Both send ten bytes to offset 0 at once; the file is the one's or the other's."""
    for _ in range(RACES):
        url = http.create(server.url, 10)
        statuses, start = [], threading.Barrier(2)

        def send(content):
            start.wait()
            statuses.append(patch(url, 0, content)[0])

        senders = [threading.Thread(target=send, args=(letter * 10,)) for letter in (b"A", b"B")]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        expect(statuses.count(204) == 1, f"two PATCHes at offset 0 were answered {statuses}")
        _, _, content = http.ask("GET", url)
        expect(content in (b"A" * 10, b"B" * 10), f"the upload is {content!r}")
    return f"{RACES} races"


def lost_answer(bench, server):
    """The client is gone as soon as its last byte is sent, before any answer."""
    for _ in range(RACES):
        lose_one_answer(server)


def lose_one_answer(server):
    url = http.create(server.url, 10)
    connection = connect(server)
    connection.send(patch_head(url, 0, 10) + b"0123456789")
    connection.close()
    deadline = time.monotonic() + 5
    while http.offset(url) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    expect(http.offset(url) == 10, "what arrived whole before the connection ended is not there")
    status, _, _ = patch(url, 0, b"0123456789")
    expect(status == 409, f"the same PATCH again was answered {status}, not 409")
    status, headers, _ = patch(url, 10, b"")
    expect(status == 204 and headers["Upload-Offset"] == "10", f"an empty one answered {status}")
    _, _, content = http.ask("GET", url)
    expect(content == b"0123456789", f"the upload is {content!r}")


def crowd(bench, server):
    source = SourceFile(bench.folder, 4 * MIB)
    url = http.create(server.url, source.length)
    patch(url, 0, source.path.read_bytes())
    hanging = hang(server, http.create(server.url, 10), b"01234", 10)
    failures = []

    def download():
        try:
            http.expect_same_file(url, source)
        except Exception as error:
            failures.append(error)

    readers = [threading.Thread(target=download) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    hanging.close()
    expect(not failures, f"{len(failures)} of {READERS} failed, first: {failures[:1]}")


def slow_reader(bench, server):
    source = SourceFile(bench.folder, 32 * MIB, seed=2)
    url = http.create(server.url, source.length)
    patch(url, 0, source.path.read_bytes())
    standing = connect(server)
    parts = urllib.parse.urlsplit(url)
    standing.send(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    http.expect_same_file(url, source)
    expect(http.offset(url) == source.length, "HEAD tells another offset")
    standing.close()
