"""tuspy and aiotus, the two tus clients for Python."""
import json

from driver import http, prepare
from driver.cut import CutProxy
from driver.files import KIB, MIB, SourceFile
from driver.processes import Client, one
from driver.report import Skip, expect


def run(bench):
    prepare.python()
    small = SourceFile(bench.folder, 100 * KIB + 3)
    medium = SourceFile(bench.folder, 12 * MIB)
    with bench.server("py") as server:
        for name, check, arguments in [
            ("tuspy: upload without metadata", tuspy_plain, (medium, 5 * MIB)),
            ("tuspy: empty file", tuspy_plain, (SourceFile(bench.folder, 0), MIB)),
            ("tuspy: metadata", tuspy_metadata, (small,)),
            ("tuspy: sha1 of every append", tuspy_checksum, (medium,)),
            ("tuspy: retry after a cut connection", tuspy_retry, (medium,)),
            ("tuspy: resume from the stored URL after a crash", tuspy_resume, (medium,)),
            ("aiotus: upload", aiotus_plain, (medium, {"filename": "a b.bin"})),
            ("aiotus: upload without metadata", aiotus_plain, (small, {})),
            ("aiotus: a key without a value comes back", aiotus_plain,
             (small, {"flag": None, "filename": "x", "empty": None})),
            ("aiotus: retry after a cut connection", aiotus_retry, (medium,)),
            ("aiotus: parts, concatenated", aiotus_parts, (small, medium)),
        ]:
            bench.check(name, check, bench, server, *arguments)


def client(bench, program, **task):
    command = [str(prepare.PYTHON), str(prepare.PY / program), json.dumps(task)]
    return Client(bench.processes, command)


def tuspy(bench, url, source, **task):
    return client(bench, "tuspy_upload.py", endpoint=url, file=str(source.path), **task)


def aiotus(bench, url, sources, metadata):
    return client(bench, "aiotus_upload.py", endpoint=url, append_bytes=3 * MIB,
                  files=[str(source.path) for source in sources], metadata=metadata)


def needs(server, extension):
    if extension not in http.extensions(server.url):
        raise Skip(f"the server does not offer {extension}")


def tuspy_plain(bench, server, source, append_bytes):
    events = tuspy(bench, server.url, source, append_bytes=append_bytes).wait()
    http.expect_same_file(one(events, "success")["url"], source)


def tuspy_metadata(bench, server, source):
    metadata = {"filename": "naïve 文件.txt", "empty": ""}
    events = tuspy(bench, server.url, source, append_bytes=MIB, metadata=metadata).wait()
    http.expect_same_file(one(events, "success")["url"], source)


def tuspy_checksum(bench, server, source):
    needs(server, "checksum")
    events = tuspy(bench, server.url, source, append_bytes=5 * MIB, checksum=True).wait()
    http.expect_same_file(one(events, "success")["url"], source)


def tuspy_retry(bench, server, source):
    with CutProxy(server.url, 7 * MIB) as proxy:
        events = tuspy(bench, proxy.url, source, append_bytes=5 * MIB, retries=3).wait()
        http.expect_same_file(one(events, "success")["url"], source)


def tuspy_resume(bench, server, source):
    """The client and the server are killed at 7 of 12 MiB; the next client finds the URL."""
    storage = str(bench.folder / "tuspy-urls.json")
    with CutProxy(server.url, 7 * MIB, hold=True) as proxy:
        task = {"append_bytes": 2 * MIB, "storage": storage}
        running = tuspy(bench, proxy.url, source, **task)
        running.reaches(proxy.reached)
        server.kill()
        running.kill()
        server.start()
        proxy.release()
        success = one(tuspy(bench, proxy.url, source, **task).wait(), "success")
        expect(success["begun_at"] >= 6 * MIB,
               f"three appends of 2 MiB were acknowledged, it went on at {success['begun_at']}")
        http.expect_same_file(success["url"], source)
    return f"resumed at {success['begun_at'] / MIB:.1f} MiB"


def aiotus_plain(bench, server, source, metadata):
    success = one(aiotus(bench, server.url, [source], metadata).wait(), "success")
    http.expect_same_file(success["url"], source)
    told = success["metadata"]
    expect(told == metadata, f"HEAD tells the metadata {told}, not {metadata}")


def aiotus_retry(bench, server, source):
    with CutProxy(server.url, 7 * MIB) as proxy:
        success = one(aiotus(bench, proxy.url, [source], {"a": "b"}).wait(), "success")
        http.expect_same_file(success["url"], source)


def aiotus_parts(bench, server, small, medium):
    needs(server, "concatenation")
    success = one(aiotus(bench, server.url, [medium, small], {"a": "b"}).wait(), "success")
    _, _, content = http.ask("GET", success["url"])
    expect(content == medium.path.read_bytes() + small.path.read_bytes(),
           "the final upload is not its parts in their order")
