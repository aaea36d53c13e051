"""curl, as a person would use it: a first upload by hand, and downloads in pieces."""
import hashlib
import re
import subprocess
import urllib.parse

from driver import http, prepare
from driver.files import MIB, SourceFile
from driver.report import Failure, expect

TUS = ["-H", "Tus-Resumable: 1.0.0"]
OCTETS = ["-H", "Content-Type: application/offset+octet-stream"]


def run(bench):
    prepare.debian("curl", "curl")
    source = SourceFile(bench.folder, 8 * MIB + 11)
    with bench.server("curl") as server:
        for name, check in [
            ("upload in two commands", upload),
            ("upload in one command, with Expect: 100-continue", upload_at_once),
            ("a range of a download", ranged),
            ("-C - goes on with a download", go_on),
            ("If-None-Match sees that nothing is new", nothing_new),
            ("HTTP/2 without TLS", http2),
        ]:
            bench.check(name, check, bench, server, source)


def curl(*arguments):
    """Runs curl; returns what it printed, the head of the answer with `-i`."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *map(str, arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=70,
    )
    if done.returncode != 0:
        raise Failure(f"curl ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def created(server, head):
    """The URL of the upload that an answer tells of."""
    location = re.search(rb"(?im)^location: (\S+)", head)
    expect(b" 201" in head.splitlines()[0] and location, f"no creation: {head[:200]!r}")
    return urllib.parse.urljoin(server.url, location[1].decode())


def upload(bench, server, source):
    length = ["-H", f"Upload-Length: {source.length}"]
    url = created(server, curl("-i", "-X", "POST", *TUS, *length, server.url))
    offset = ["-H", "Upload-Offset: 0"]
    head = curl("-i", "-X", "PATCH", *TUS, *offset, *OCTETS,
                "--data-binary", f"@{source.path}", url)
    expect(b"HTTP/1.1 204" in head, f"PATCH: {head[:200]!r}")
    http.expect_same_file(url, source)


def upload_at_once(bench, server, source):
    length = ["-H", f"Upload-Length: {source.length}", "-H", "Expect: 100-continue"]
    head = curl("-i", "-X", "POST", *TUS, *length, *OCTETS,
                "--data-binary", f"@{source.path}", server.url)
    expect(head.startswith(b"HTTP/1.1 100"), f"no 100 before the content: {head[:100]!r}")
    url = created(server, head.split(b"\r\n\r\n", 1)[1])
    http.expect_same_file(url, source)


def uploaded(server, source):
    headers = ["-H", f"Upload-Length: {source.length}", *TUS, *OCTETS, "-H", "Expect:"]
    head = curl("-i", "-X", "POST", *headers, "--data-binary", f"@{source.path}", server.url)
    return created(server, head)


def ranged(bench, server, source):
    data = curl("-r", "1048576-2097151", uploaded(server, source))
    expect(data == source.path.read_bytes()[MIB : 2 * MIB], "another range came back")


def go_on(bench, server, source):
    target = bench.folder / "curl-download"
    target.write_bytes(source.path.read_bytes()[: 3 * MIB])
    curl("-C", "-", "-o", target, uploaded(server, source))
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    expect(sha256 == source.sha256, "the file is not whole after it was gone on with")


def nothing_new(bench, server, source):
    url = uploaded(server, source)
    head = curl("-I", url).decode()
    etag = re.search(r"(?im)^etag: (\S+)", head)
    expect(etag, "no ETag")
    status = curl("-o", "/dev/null", "-w", "%{http_code}", "-H", f"If-None-Match: {etag[1]}", url)
    expect(status == b"304", f"answered {status.decode()}, not 304")


def http2(bench, server, source):
    length = ["-H", f"Upload-Length: {source.length}"]
    h2 = ["--http2-prior-knowledge", "-i", "-X", "POST"]
    head = curl(*h2, *TUS, *length, *OCTETS, "--data-binary", f"@{source.path}", server.url)
    url = created(server, head)
    expect(head.startswith(b"HTTP/2"), f"not HTTP/2: {head[:40]!r}")
    target = bench.folder / "curl-http2"
    curl("--http2-prior-knowledge", "-o", target, url)
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    expect(sha256 == source.sha256, "the downloaded bytes are not those that were uploaded")
