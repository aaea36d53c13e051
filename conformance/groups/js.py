"""tus-js-client from Node: the whole life of an upload, with crashes in the middle."""
import base64
import json

from driver import http, prepare
from driver.cut import CutProxy
from driver.files import GIB, KIB, MIB, SourceFile
from driver.processes import Client, one
from driver.report import Skip, expect

# Far below the file, far above what a server needs that passes content on as it comes.
MEMORY_KIB = 128 * KIB


def run(bench):
    prepare.javascript()
    small = SourceFile(bench.folder, 300 * KIB + 7)
    medium = SourceFile(bench.folder, 24 * MIB)
    with bench.server("js") as server:
        for name, check, arguments in [
            ("small upload", plain, (small, {})),
            ("empty file", plain, (SourceFile(bench.folder, 0), {})),
            ("many appends", plain, (medium, {"chunkSize": 1 * MIB})),
            ("content in the creation", plain, (small, {"uploadDataDuringCreation": True})),
            ("content in the creation, then appends", plain,
             (medium, {"uploadDataDuringCreation": True, "chunkSize": 5 * MIB})),
            ("deferred length, ends inside an append", deferred, (medium, 5 * MIB)),
            ("deferred length, ends on the border of an append", deferred, (medium, 4 * MIB)),
            ("POST in place of PATCH", plain, (small, {"overridePatchMethod": True})),
            ("request ids", plain, (small, {"addRequestId": True})),
            ("metadata in UTF-8", metadata, (small,)),
            ("terminate", terminate, (medium,)),
            ("abort inside an append, resume at once", abort_and_resume, (medium,)),
            ("resume after a cut connection", cut_connection, (medium,)),
            ("four parts at once", parallel, (medium,)),
        ]:
            bench.check(name, check, bench, server, *arguments)
    length = 1 * GIB if bench.is_long else 300 * MIB
    bench.check(f"{length // MIB} MiB, the server killed twice", killed_twice, bench, length)


def client(bench, url, source, options, **task):
    """Starts tus-js-client on one file."""
    task |= {"endpoint": url, "file": str(source.path), "options": options}
    return Client(bench.processes, ["node", str(prepare.JS / "upload.mjs"), json.dumps(task)])


def plain(bench, server, source, options):
    events = client(bench, server.url, source, options).wait()
    http.expect_same_file(one(events, "success")["url"], source)


def deferred(bench, server, source, append_bytes):
    options = {"uploadLengthDeferred": True, "chunkSize": append_bytes}
    events = client(bench, server.url, source, options, stream=True).wait()
    http.expect_same_file(one(events, "success")["url"], source)


def metadata(bench, server, source):
    name, options = "naïve 文件 \"x\".txt", {}
    options["metadata"] = {"filename": name, "filetype": "text/plain"}
    url = one(client(bench, server.url, source, options).wait(), "success")["url"]
    http.expect_same_file(url, source)
    _, headers, _ = http.ask("HEAD", url, http.TUS)
    pairs = dict(pair.split(" ") for pair in headers["Upload-Metadata"].split(","))
    told = base64.b64decode(pairs["filename"]).decode()
    expect(told == name, f"HEAD tells the file name {told!r}, not {name!r}")


def terminate(bench, server, source, protocol="tus-v1"):
    # Held so that the upload cannot be complete when the client ends it.
    with CutProxy(server.url, 12 * MIB, hold=True) as proxy:
        options = {"chunkSize": 1 * MIB, "protocol": protocol}
        running = client(bench, proxy.url, source, options, abortAt=5 * MIB, then="terminate")
        ended = one(running.wait(), "terminated")
        upload = ended["url"].replace(proxy.url, server.url)
    status, _, _ = http.ask("HEAD", upload, http.TUS)
    expect(status in (404, 410), f"HEAD after the end answered {status}, not 404 or 410")


def abort_and_resume(bench, server, source, protocol="tus-v1"):
    options = {"chunkSize": "Infinity", "retryDelays": [0, 1000, 3000], "protocol": protocol}
    events = client(bench, server.url, source, options, abortAt=1, then="resume").wait()
    one(events, "aborted")
    http.expect_same_file(one(events, "success")["url"], source)


def cut_connection(bench, server, source, protocol="tus-v1"):
    options = {"chunkSize": "Infinity", "retryDelays": [0, 1000, 3000], "protocol": protocol}
    with CutProxy(server.url, 10 * MIB) as proxy:
        events = client(bench, proxy.url, source, options).wait()
        answers = [e for e in events if e["event"] == "response"]
        kept = [int(e["offset"]) for e in answers if e["method"] == "HEAD"]
        expect(kept and kept[0] > 0, f"nothing was kept of 10 MiB that had arrived: {kept}")
        http.expect_same_file(one(events, "success")["url"], source)
    return f"kept {kept[0] / MIB:.1f} of 10 MiB"


def parallel(bench, server, source):
    if "concatenation" not in http.extensions(server.url):
        raise Skip("the server does not offer concatenation")
    events = client(bench, server.url, source, {"parallelUploads": 4}).wait()
    created = [e for e in events if e["event"] == "response" and e["method"] == "POST"]
    expect(len(created) == 5, f"{len(created)} creations, not four parts and the whole")
    http.expect_same_file(one(events, "success")["url"], source)


def killed_twice(bench, length, protocols=("tus-v1", "tus-v1", "tus-v1")):
    """Two crashes: between appends of 10 MiB, and inside one that never ends."""
    name = "-".join([bench.group, *protocols])
    source, storage = SourceFile(bench.folder, length), bench.folder / f"{name}.json"
    third = length // 3
    promised, resumed_at, url = 0, [], None
    with bench.server(name) as server, CutProxy(server.url, third, hold=True) as proxy:
        for append_bytes, protocol in zip([10 * MIB, "Infinity", "Infinity"], protocols):
            options = {"chunkSize": append_bytes, "protocol": protocol}
            running = client(bench, proxy.url, source, options, urlStorage=str(storage))
            if len(resumed_at) < 2:
                running.reaches(proxy.reached)
                server.kill()
                running.kill()
                events = list(running.events())
                server.start()
                proxy.release(third if len(resumed_at) == 0 else None)
            else:
                events = running.wait()
                url = one(events, "success")["url"]
            answers = [e for e in events if e["event"] == "response"]
            creations = sum(e["method"] == "POST" for e in answers)
            expect(creations == (promised == 0), "the client began a new upload after a crash")
            offsets = [int(e["offset"]) for e in answers if e["offset"] is not None]
            expect(offsets == sorted(offsets) and offsets[0] >= promised,
                   f"the offset went back from {promised}: {offsets[:3]}")
            resumed_at.append(offsets[0])
            promised = offsets[-1]
        http.expect_same_file(url, source)
        memory_kib = server.peak_memory_kib()
        expect(memory_kib < MEMORY_KIB, f"the server took {memory_kib // KIB} MiB of memory")
    return "resumed at " + " and ".join(f"{at // MIB} MiB" for at in resumed_at[1:])
