"""`resumed put` against @tus/server, and against resumed itself."""
import base64
import re

from driver import http, prepare
from driver.cut import CutProxy
from driver.files import KIB, MIB, SourceFile
from driver.processes import Client, one
from driver.report import Failure, expect
from driver.server import Server


def run(bench):
    prepare.javascript(prepare.SERVERS)
    binary = bench.binary.resolve()
    small = SourceFile(bench.folder, 300 * KIB + 7)
    medium = SourceFile(bench.folder, 48 * MIB + 11)
    checks = [
        ("small file", plain, (small,)),
        ("empty file", plain, (SourceFile(bench.folder, 0),)),
        ("48 MiB in one request", plain, (medium,)),
        ("requests of 5 MiB", plain, (medium, "--max-request", "5MiB")),
        ("name and type are told", metadata, (small,)),
        ("a cut connection", cut, (medium,)),
        ("put is killed, and another goes on", killed, (medium,)),
        ("four parts, or one where the server cannot join", parts, (medium,)),
        ("standard input of unknown length", stdin, (medium,)),
    ]
    with NodeServer(bench) as node:
        for name, check, arguments in checks:
            bench.check(f"@tus/server: {name}", check, bench, binary, node.url, *arguments)
        restarted = (bench, binary, node, SourceFile(bench.folder, 40 * MIB, seed=2))
        bench.check("@tus/server: the server is killed, and put goes on", server_killed, *restarted)
    with bench.server("put") as server:
        for number, (name, check, arguments) in enumerate(checks):
            # Other bytes each time, or the server has them already.
            source = SourceFile(bench.folder, arguments[0].length, seed=100 + number)
            arguments = (source, *arguments[1:])
            bench.check(f"resumed: {name}", check, bench, binary, server.url, *arguments)
        bench.check("resumed: what it has is not sent", instant, bench, binary, server.url, medium)


class NodeServer(Server):
    """@tus/server as a process."""

    ready = re.compile(r"ready: (http://127\.0\.0\.1:(\d+)/\S*)")

    def __init__(self, bench):
        super().__init__(bench.processes, "node", bench.folder, "tus-node")
        self._data.mkdir(exist_ok=True)

    def _command(self):
        script = prepare.SERVERS / "tus-server.mjs"
        return [self._binary, str(script), str(self._data), str(self._port)]


def client(bench, binary, url, source, *flags):
    """Starts `resumed put` on one file."""
    command = [str(binary), "put", "--json", *flags, str(source.path), url]
    return Client(bench.processes, command, env={"XDG_STATE_HOME": str(bench.folder / "state")})


def finished(events, source):
    """The URL of an upload that ended well."""
    ended = one(events, "finished")
    expect(ended["bytes"] == source.length, f"{ended['bytes']} bytes, not {source.length}")
    http.expect_same_file(ended["url"], source)
    return ended["url"]


def plain(bench, binary, url, source, *flags):
    finished(client(bench, binary, url, source, *flags).wait(), source)


def metadata(bench, binary, url, source):
    flags = ["--name", "naïve 文件.txt", "-m", "album=a b"]
    upload = one(client(bench, binary, url, source, *flags).wait(), "finished")["url"]
    _, headers, _ = http.ask("HEAD", upload, http.TUS)
    pairs = dict(pair.split(" ") for pair in headers["Upload-Metadata"].split(","))
    told = {key: base64.b64decode(value).decode() for key, value in pairs.items()}
    wanted = {"filename": "naïve 文件.txt", "filetype": "text/plain", "album": "a b"}
    expect(wanted.items() <= told.items(), f"HEAD tells {told}")


def cut(bench, binary, url, source):
    with CutProxy(url, 20 * MIB) as proxy:
        events = client(bench, binary, proxy.url, source).wait()
        finished(events, source)
    expect(any(event["event"] == "retry" for event in events), "nothing was cut")
    moved = one(events, "finished")["moved_bytes"]
    expect(moved < source.length + 20 * MIB, f"{moved} bytes were moved")
    return f"sent {(moved - source.length) / MIB:.1f} MiB twice"


def killed(bench, binary, url, source):
    with CutProxy(url, 20 * MIB, hold=True) as proxy:
        running = client(bench, binary, proxy.url, source)
        running.reaches(proxy.reached)
        running.kill()
        proxy.release()
        events = client(bench, binary, proxy.url, source).wait()
        finished(events, source)
    present = one(events, "started")["present_bytes"]
    expect(present > 0, "the second run began anew")
    return f"went on at {present / MIB:.1f} MiB"


def server_killed(bench, binary, node, source):
    with CutProxy(node.url, 20 * MIB, hold=True) as proxy:
        running = client(bench, binary, proxy.url, source)
        running.reaches(proxy.reached)
        node.kill()
        proxy.release()
        node.start()
        finished(running.wait(), source)


def parts(bench, binary, url, source):
    can_join = "concatenation" in http.extensions(url)
    events = client(bench, binary, url, source, "-c", "4").wait()
    finished(events, source)
    notes = [event["message"] for event in events if event["event"] == "note"]
    expect(can_join != any("cannot join" in note for note in notes), f"it was told {notes}")
    return "joined" if can_join else "in one"


def stdin(bench, binary, url, source):
    if "creation-defer-length" not in http.extensions(url):
        raise Failure("the server does not offer creation-defer-length")
    command = f"cat {source.path} | {binary} put --json - {url}"
    events = Client(bench.processes, ["sh", "-c", command]).wait()
    finished(events, source)


def instant(bench, binary, url, source):
    plain(bench, binary, url, source)
    events = client(bench, binary, url, source).wait()
    finished(events, source)
    ended = one(events, "finished")
    expect(ended["moved_bytes"] == 0, f"{ended['moved_bytes']} bytes were sent again")
    expect((ended["verified"] or "").startswith("blake3:"), "nothing was compared")
