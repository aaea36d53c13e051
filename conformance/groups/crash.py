"""SIGKILL and SIGTERM at places that broke a peer: what was promised before holds after."""
import base64
import hashlib
import random
import threading
import time

from driver import http
from driver.cut import CutProxy
from driver.files import KIB, MIB, SourceFile
from driver.report import Skip, expect

from .takeover import connect, patch, patch_head

KILLS = 8
STOP_TIMEOUT_S = 20


def run(bench):
    with bench.server("crash") as server:
        for name, check, clauses in [
            ("killed at random places, the prefix is true", random_places, ["core-27", "peer-9"]),
            ("killed inside an append with a checksum", inside_checksum, ["checksum-7"]),
            ("killed after a DELETE", after_delete, ["termination-4"]),
            ("killed after the last byte", after_completion, ["core-12"]),
            ("killed after the creation of a final upload", after_concatenation,
             ["concatenation-2", "concatenation-11"]),
            ("SIGTERM keeps what had arrived, and ends", terminated, ["core-27"]),
        ]:
            bench.check(name, check, bench, server, clauses=clauses)


def restart(server):
    server.kill()
    server.start()


def needs(server, extension):
    if extension not in http.extensions(server.url):
        raise Skip(f"the server does not offer {extension}")


def random_places(bench, server):
    """Appends are cut by a crash; then HEAD may tell more than was answered, never less."""
    source = SourceFile(bench.folder, 64 * MIB, seed=3)
    content, numbers = source.path.read_bytes(), random.Random(4)
    url, promised = http.create(server.url, source.length), 0
    places = []
    for _ in range(KILLS):
        step = min(numbers.randrange(1 * KIB, 6 * MIB), source.length - promised)
        with CutProxy(server.url, numbers.randrange(300, step), hold=True) as proxy:
            through = url.replace(server.url, proxy.url)
            connection = connect(proxy)
            sent = patch_head(through, promised, step) + content[promised : promised + step]
            threading.Thread(target=connection.send, args=(sent,), daemon=True).start()
            expect(proxy.reached.wait(10), "the append did not come to the place of the crash")
            server.kill()
            connection.close()
        server.start()
        offset = http.offset(url)
        expect(offset >= promised, f"the offset went back from {promised} to {offset}")
        promised = offset
        places.append(promised)
        expect_append(url, promised, content[promised : promised + 256 * KIB])
        promised += len(content[promised : promised + 256 * KIB])
    expect_append(url, promised, content[promised:])
    http.expect_same_file(url, source)
    return f"{len(places)} kills"


def expect_append(url, offset, content):
    status, headers, _ = patch(url, offset, content)
    told = headers["Upload-Offset"]
    expect(status == 204 and told == str(offset + len(content)),
           f"PATCH at {offset}, as HEAD said, answered {status} with offset {told}")


def inside_checksum(bench, server):
    needs(server, "checksum")
    url = http.create(server.url, 10)
    connection = connect(server)
    sha1 = base64.b64encode(hashlib.sha1(b"0123456789").digest()).decode()
    more = ["Expect: 100-continue", f"Upload-Checksum: sha1 {sha1}"]
    connection.send(patch_head(url, 0, 10, *more))
    connection.head()
    connection.send(b"01234")
    restart(server)
    connection.close()
    expect(http.offset(url) == 0, "bytes that were never verified count after a crash")
    expect_append(url, 0, b"9876543210")
    _, _, content = http.ask("GET", url)
    expect(content == b"9876543210", f"the upload is {content!r}")


def after_delete(bench, server):
    url = http.create(server.url, 10)
    patch(url, 0, b"01234")
    status, _, _ = http.ask("DELETE", url, http.TUS)
    expect(status == 204, f"DELETE answered {status}")
    restart(server)
    status, _, _ = http.ask("HEAD", url, http.TUS)
    expect(status in (404, 410), f"HEAD answered {status}, not 404 or 410")


def after_completion(bench, server):
    url = http.create(server.url, 10)
    expect_append(url, 0, b"0123456789")
    _, before, _ = http.ask("GET", url)
    restart(server)
    expect(http.offset(url) == 10, "the offset changed")
    _, after, content = http.ask("GET", url)
    expect(content == b"0123456789", f"the upload is {content!r}")
    expect(before["ETag"] == after["ETag"], "another ETag for the same bytes")


def after_concatenation(bench, server):
    needs(server, "concatenation")
    source = SourceFile(bench.folder, 24 * MIB, seed=5)
    parts = []
    for _ in range(3):
        headers = http.TUS | {"Upload-Length": str(source.length), "Upload-Concat": "partial"}
        _, headers, _ = http.ask("POST", server.url, headers)
        parts.append(headers["Location"])
        expect_append(parts[-1], 0, source.path.read_bytes())
    headers = http.TUS | {"Upload-Concat": "final;" + " ".join(parts)}
    status, headers, _ = http.ask("POST", server.url, headers)
    server.kill()
    expect(status == 201, f"the final upload was answered {status}")
    server.start()
    deadline = time.monotonic() + 30
    while http.ask("GET", headers["Location"])[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    status, _, content = http.ask("GET", headers["Location"])
    expect(status == 200, f"GET answers {status} after the crash")
    expect(content == source.path.read_bytes() * 3, "the final upload is not its parts")


def terminated(bench, server):
    url = http.create(server.url, 10)
    connection = connect(server)
    connection.send(patch_head(url, 0, 10, "Expect: 100-continue"))
    connection.head()
    connection.send(b"01234")
    started = time.monotonic()
    code = server.stop(STOP_TIMEOUT_S)
    took_s = time.monotonic() - started
    connection.close()
    server.start()
    expect(code == 0, f"the server ended with {code}")
    expect(http.offset(url) == 5, f"{http.offset(url)} of 5 bytes are kept")
    return f"ended after {took_s:.1f} s"
