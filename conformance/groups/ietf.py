"""The IETF protocol with the clients that speak it, and what raw cases cannot show of it."""
import re
import urllib.parse

from driver import http, prepare
from driver.files import KIB, MIB, SourceFile
from driver.report import expect
from driver.wire import Connection

from .curl import created, curl
from .js import abort_and_resume, client, cut_connection, killed_twice, plain, terminate

DRAFTS = ("ietf-draft-03", "ietf-draft-05")
WHOLE = ["-H", "Upload-Complete: ?1"]
VERSION = ["-H", "Upload-Draft-Interop-Version: 8"]


def run(bench):
    prepare.javascript()
    prepare.debian("curl", "curl")
    small = SourceFile(bench.folder, 300 * KIB + 7)
    medium = SourceFile(bench.folder, 24 * MIB)
    with bench.server("ietf") as server:
        for draft in DRAFTS:
            for name, check, arguments in [
                ("small upload", plain, (small, {"protocol": draft})),
                ("empty file", plain, (SourceFile(bench.folder, 0), {"protocol": draft})),
                ("many appends", plain, (medium, {"chunkSize": MIB, "protocol": draft})),
                ("content in the creation, then appends", plain,
                 (medium, {"uploadDataDuringCreation": True, "chunkSize": 5 * MIB,
                           "protocol": draft})),
                ("POST in place of PATCH", plain,
                 (small, {"overridePatchMethod": True, "protocol": draft})),
                ("metadata", metadata, (small, draft)),
                ("terminate", terminate, (medium, draft)),
                ("abort inside an append, resume at once", abort_and_resume, (medium, draft)),
                ("resume after a cut connection", cut_connection, (medium, draft)),
            ]:
                bench.check(f"{draft}: {name}", check, bench, server, *arguments)
        for name, check, clauses in [
            ("curl: a whole upload in one request", curl_whole, ["rufh-creation-1"]),
            ("curl: a whole upload by PUT", curl_put, ["rufh-creation-9"]),
            ("curl: a cut upload is gone on with", curl_resume, ["rufh-creation-11"]),
            ("curl: HTTP/2, without a 104", curl_http2, []),
        ]:
            bench.check(name, check, bench, server, medium, clauses=clauses)
        bench.check("progress is told while content comes", progress, server,
                    clauses=["rufh-creation-16", "rufh-append-13", "rufh-append-14"])
        bench.check("HEAD ends an append that hangs", takes_over, server,
                    clauses=["rufh-cancel-2"])
    bench.check("limits are told and hold", limits, bench, clauses=["rufh-state-12"])
    both = ("tus-v1", DRAFTS[1], "tus-v1")
    bench.check("begun by tus, gone on with in the IETF protocol and finished by tus, two crashes",
                killed_twice, bench, 90 * MIB, both, clauses=["rufh-both-2"])
    bench.check("begun in the IETF protocol, finished by tus, two crashes",
                killed_twice, bench, 90 * MIB, (DRAFTS[0], DRAFTS[1], "tus-v1"),
                clauses=["rufh-both-2"])


def metadata(bench, server, source, draft):
    options = {"protocol": draft, "metadata": {"filename": "a b.txt", "filetype": "text/plain"}}
    events = client(bench, server.url, source, options).wait()
    url = next(event["url"] for event in events if event["event"] == "success")
    _, headers, _ = http.ask("HEAD", url)
    expect("a b.txt" in headers["Content-Disposition"], "the name is lost")
    expect(headers["Content-Type"] == "text/plain", "the media type is lost")


def curl_whole(bench, server, source):
    head = curl("-i", *WHOLE, *VERSION, "-H", "Expect:", "-H", "Content-Type: text/plain",
                "--data-binary", f"@{source.path}", server.url)
    first, rest = head.split(b"\r\n\r\n", 1)
    expect(first.startswith(b"HTTP/1.1 104"), f"no 104 before the answer: {first[:100]!r}")
    told = re.search(rb"(?im)^location: (\S+)", first)
    url = created(server, rest)
    expect(told and told[1].decode() == url, "the 104 tells another URL than the answer")
    http.expect_same_file(url, source)


def curl_put(bench, server, source):
    head = curl("-i", *WHOLE, "-H", "Expect:", "-T", source.path, server.url + "name")
    expect(b" 201" not in head.splitlines()[0], "PUT below the collection is no creation")
    head = curl("-i", *WHOLE, "-H", "Expect:", "-X", "PUT", "--data-binary", f"@{source.path}",
                server.url)
    http.expect_same_file(created(server, head), source)


def curl_resume(bench, server, source):
    half = source.length // 2
    part = bench.folder / "half"
    part.write_bytes(source.path.read_bytes()[:half])
    head = curl("-i", "-H", "Upload-Complete: ?0", "-H", f"Upload-Length: {source.length}",
                "-H", "Expect:", "--data-binary", f"@{part}", server.url)
    url = created(server, head)
    offset = re.search(rb"(?im)^upload-offset: (\d+)", curl("-I", url))[1].decode()
    expect(int(offset) == half, f"the offset is {offset}, not {half}")
    rest = bench.folder / "rest"
    rest.write_bytes(source.path.read_bytes()[half:])
    head = curl("-i", "-X", "PATCH", *WHOLE, "-H", f"Upload-Offset: {offset}", "-H", "Expect:",
                "-H", "Content-Type: application/partial-upload", "--data-binary", f"@{rest}", url)
    expect(created(server, head) == url, "the answer does not tell where the download is")
    http.expect_same_file(url, source)


def curl_http2(bench, server, source):
    head = curl("--http2-prior-knowledge", "-i", *WHOLE, *VERSION, "--data-binary",
                f"@{source.path}", server.url)
    expect(head.startswith(b"HTTP/2 201"), f"not the answer: {head[:60]!r}")
    http.expect_same_file(created(server, head), source)


def opened(server):
    parts = urllib.parse.urlsplit(server.url)
    return Connection((parts.hostname, parts.port)), parts


def progress(server):
    """150 MiB in two requests, on one connection that reads as it sends."""
    connection, parts = opened(server)
    told = []
    for method, path, fields in [
        ("POST", parts.path, ""),
        ("PATCH", None, "Upload-Offset: 157286400\r\nContent-Type: application/partial-upload\r\n"),
    ]:
        head = (f"{method} {path or upload} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Upload-Draft-Interop-Version: 8\r\nUpload-Complete: ?0\r\n{fields}"
                f"Content-Length: {150 * MIB}\r\n\r\n")
        connection.send(head.encode())
        heads = []
        for _ in range(150):
            connection.send(bytes(MIB))
            while connection.has_answer(0):
                heads.append(connection.head())
        answer = connection.response(method, heads)
        expect(answer.status in (201, 204), f"{method} answered {answer.status}")
        fields = [{name.lower(): value for name, value in fields} for _, fields in answer.interim]
        offsets = [int(each["upload-offset"]) for each in fields if "upload-offset" in each]
        located = [each for each in fields if "location" in each]
        expect(offsets and offsets == sorted(offsets), f"{method} told {offsets}")
        expect(all("location" not in each for each in fields if "upload-offset" in each),
               "a 104 tells both an offset and a URL")
        expect(len(located) == (method == "POST"), f"{method} told a URL {len(located)} times")
        upload = upload if method == "PATCH" else urllib.parse.urlsplit(answer.field("Location")).path
        told += offsets
    connection.close()
    return "told " + ", ".join(f"{offset // MIB} MiB" for offset in told)


def takes_over(server):
    connection, parts = opened(server)
    connection.send((f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                     "Upload-Draft-Interop-Version: 8\r\nUpload-Complete: ?1\r\n"
                     "Content-Length: 10\r\n\r\nhello").encode())
    status, fields = connection.head()
    expect(status == 104, f"answered {status}, not 104")
    url = {name.lower(): value for name, value in fields}["location"]
    status, headers, _ = http.ask("HEAD", urllib.parse.urljoin(server.url, url))
    expect(headers["Upload-Complete"] == "?0", "complete, with half of its content")
    offset = int(headers["Upload-Offset"])
    content = {"Content-Type": "application/partial-upload", "Upload-Complete": "?1",
               "Upload-Offset": str(offset)}
    status, _, _ = http.ask("PATCH", urllib.parse.urljoin(server.url, url), content,
                            b"helloworld"[offset:])
    expect(status == 201, f"PATCH answered {status}, not 201")
    connection.close()


def limits(bench):
    flags = ["--max-length", "100", "--min-length", "5", "--max-append", "20", "--min-append", "3"]
    with bench.server("ietf-limits", *flags, "--expire-after", "1h") as server:
        _, headers, _ = http.ask("OPTIONS", server.url)
        told = "max-size=100, min-size=5, max-append-size=20, min-append-size=3, max-age=3600"
        expect(headers["Upload-Limit"] == told, f"OPTIONS tells {headers['Upload-Limit']}")
        for content, complete, wanted in [(4, "?1", 400), (21, "?1", 413), (2, "?0", 400),
                                          (20, "?1", 201), (3, "?0", 201), (0, "?0", 201)]:
            status, headers, _ = http.ask("POST", server.url, {"Upload-Complete": complete},
                                          bytes(content))
            expect(status == wanted, f"{content} bytes, {complete}: {status}, not {wanted}")
            if status >= 400:
                expect(headers["Upload-Limit"] == told, "a refusal without the limits")
