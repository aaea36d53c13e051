"""Digests of whole uploads: aria2 verifies and repairs by a Metalink file, tus-js-client need not send."""
import json
import subprocess

from driver import http, prepare
from driver.files import MIB, SourceFile
from driver.processes import Client, one
from driver.report import expect


def run(bench):
    prepare.debian("aria2c", "aria2")
    prepare.javascript()
    source = SourceFile(bench.folder, 8 * MIB + 11)
    arguments = ["--sha256", "on", "--sha256-pieces", "on"]
    with bench.server("digests", *arguments) as server:
        for name, check, clauses in [
            ("aria2 verifies by a Metalink file", verified, ["digest-7"]),
            ("aria2 repairs a damaged file by its pieces", repaired, ["digest-7"]),
            ("aria2 sees that a download is damaged", damaged, ["get-18"]),
            ("tus-js-client need not send what is here", instant, ["digest-8"]),
        ]:
            bench.check(name, check, bench, server, source, clauses=clauses)


def upload(server, source):
    url = http.create(server.url, source.length)
    headers = http.TUS | {
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    status, _, _ = http.ask("PATCH", url, headers, source.path.read_bytes())
    expect(status == 204, f"PATCH answered {status}")
    return url


def aria2(folder, *arguments):
    folder.mkdir(exist_ok=True)
    command = ["aria2c", "--quiet", "--max-tries=2", f"--dir={folder}", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=120).returncode


def expect_file(path, source):
    expect(path.read_bytes() == source.path.read_bytes(), "other bytes were downloaded")


def verified(bench, server, source):
    url = upload(server, source)
    folder = bench.folder / "aria2"
    code = aria2(folder, f"{url}.meta4")
    expect(code == 0, f"aria2c ended with {code}")
    expect_file(folder / url.rsplit("/", 1)[1], source)


def repaired(bench, server, source):
    url = upload(server, source)
    folder = bench.folder / "aria2-repair"
    expect(aria2(folder, f"{url}.meta4") == 0, "aria2c failed")
    file = folder / url.rsplit("/", 1)[1]
    content = bytearray(file.read_bytes())
    content[3 * MIB + 5] ^= 1
    file.write_bytes(content)
    _, _, metalink = http.ask("GET", f"{url}.meta4")
    (bench.folder / "repair.meta4").write_bytes(metalink)
    arguments = ["--check-integrity=true", "--allow-overwrite=true"]
    code = aria2(folder, *arguments, f"--metalink-file={bench.folder / 'repair.meta4'}")
    expect(code == 0, f"aria2c ended with {code}")
    expect_file(file, source)


def damaged(bench, server, source):
    other = SourceFile(bench.folder, 3 * MIB)
    url = upload(server, other)
    name = url.rsplit("/", 1)[1]
    [file] = bench.folder.glob(f"digests-data/uploads/*/{name}")
    with open(file, "r+b") as content:
        content.seek(MIB)
        content.write(b"damage")
    code = aria2(bench.folder / "aria2-damaged", url)
    expect(code == 32, f"aria2c ended with {code}, not with 32 for a wrong digest")


def instant(bench, server, source):
    _, told, _ = http.ask("HEAD", upload(server, source))
    options = {"metadata": {"blake3": told["Upload-Blake3"]}, "retryDelays": [0, 100]}
    task = {"endpoint": server.url, "file": str(source.path), "options": options}
    command = ["node", str(prepare.JS / "upload.mjs"), json.dumps(task)]
    events = Client(bench.processes, command).wait()
    http.expect_same_file(one(events, "success")["url"], source)
    answers = [event["status"] for event in events if event["event"] == "response"]
    expect(204 not in answers, f"an append was taken: {answers}")
