"""Uppy's tus plugin in headless Chromium, on a page of another origin than the server."""
import json
import os

from driver import http, prepare
from driver.files import KIB, MIB, SourceFile
from driver.processes import Client, one
from driver.report import Skip, expect

PARTS = 4


def run(bench):
    prepare.javascript()
    chromium = prepare.debian("chromium", "chromium")
    small = SourceFile(bench.folder, 200 * KIB + 1)
    medium = SourceFile(bench.folder, 40 * MIB)
    large = SourceFile(bench.folder, 160 * MIB)
    with bench.server("browser", "--max-length", "1GiB") as server:
        for name, check, arguments in [
            ("Uppy: small upload", plain, (small, {})),
            ("Uppy: many appends", plain, (medium, {"chunkSize": 5 * MIB})),
            ("Uppy: pause and resume inside an append", pause, (large,)),
            ("Uppy: page reload, then resume", reload, (medium,)),
            ("Uppy: parallel uploads", parallel, (medium,)),
        ]:
            bench.check(name, check, bench, chromium, server, *arguments)
        bench.check("the page reads a range", read_range, bench, chromium, server,
                    clauses=["cors-2"])
        bench.check("the page reads a refusal", read_refusal, bench, chromium, server,
                    clauses=["cors-2"])


def client(bench, chromium, **task):
    command = ["node", str(prepare.JS / "browser.mjs"), json.dumps(task | {"chromium": chromium})]
    # Chromium's profile goes with the temporary folder of the run.
    return Client(bench.processes, command, env=os.environ | {"TMPDIR": str(bench.folder)})


def upload(bench, chromium, server, source, options, **task):
    task |= {"endpoint": server.url, "file": str(source.path), "options": options}
    return client(bench, chromium, **task).wait()


def plain(bench, chromium, server, source, options):
    events = upload(bench, chromium, server, source, options)
    http.expect_same_file(one(events, "success")["url"], source)


def pause(bench, chromium, server, source):
    events = upload(bench, chromium, server, source, {}, pauseAt=1)
    one(events, "paused")
    http.expect_same_file(one(events, "success")["url"], source)


def reload(bench, chromium, server, source):
    """The page goes away once 15 of 40 MiB are acknowledged; the next one finds the upload."""
    events = upload(bench, chromium, server, source, {"chunkSize": 5 * MIB}, holdAt=15 * MIB)
    http.expect_same_file(one(events, "success")["url"], source)
    runs = [event["requests"] for event in events if event["event"] == "requests"]
    expect(len(runs) == 2, "the page was not reloaded")
    first = runs[1][0]
    expect(first["method"] == "HEAD" and int(first["offset"] or 0) >= 15 * MIB,
           f"after the reload the client did not go on from 15 MiB: {first}")


def parallel(bench, chromium, server, source):
    if "concatenation" not in http.extensions(server.url):
        raise Skip("the server does not offer concatenation")
    events = upload(bench, chromium, server, source, {"parallelUploads": PARTS})
    created = [r for r in one(events, "requests")["requests"] if r["method"] == "POST"]
    expect(len(created) == PARTS + 1, f"{len(created)} creations, not {PARTS} parts and the whole")
    http.expect_same_file(one(events, "success")["url"], source)


def read_range(bench, chromium, server):
    uploaded = http.create(server.url, 10)
    headers = http.TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    http.ask("PATCH", uploaded, headers, b"0123456789")
    fields = ["Content-Range", "ETag", "Content-Length"]
    question = {"url": uploaded, "method": "GET", "headers": {"Range": "bytes=2-5"}}
    answers = client(bench, chromium, ask=[question | {"fields": fields}]).wait()
    answer = one(answers, "answer")
    expect(answer["status"] == 206 and answer["text"] == "2345", f"the page got {answer}")
    expect(answer["fields"]["Content-Range"] == "bytes 2-5/10", "the page sees no Content-Range")
    expect(answer["fields"]["ETag"], "the page sees no ETag")


def read_refusal(bench, chromium, server):
    question = {"url": server.url, "method": "POST", "fields": ["Tus-Resumable"]}
    question["headers"] = http.TUS | {"Upload-Length": str(2**40)}
    answer = one(client(bench, chromium, ask=[question]).wait(), "answer")
    expect(answer["status"] == 413, f"the page got {answer['status']}, not 413")
    expect(answer["fields"]["Tus-Resumable"] == "1.0.0", "the page sees no Tus-Resumable")
