"""`resumed get` from nginx, from Python's http.server and from `resumed` itself."""
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from driver import http as tus
from driver import prepare
from driver.files import MIB, SourceFile
from driver.report import Failure, Skip, expect

TIMEOUT_S = 120
CONFIG = """
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
events {{ worker_connections 256; }}
http {{
  access_log access.log; sendfile on;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate cert.pem; ssl_certificate_key key.pem;
    root {root};
    location /slow/ {{ alias {root}/; limit_rate 1m; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
    location /few/ {{ alias {root}/; limit_rate 1m; limit_conn all 2; }}
  }}
  limit_conn_zone $server_name zone=all:1m;
}}
"""


def run(bench):
    nginx = prepare.debian("nginx", "nginx-light")
    prepare.debian("openssl", "openssl")
    web = Web(bench, nginx)
    source = SourceFile(web.root, 12 * MIB + 345)
    get = Get(bench, source)
    web.start()
    for name, check in [
        ("nginx: a file comes whole", whole),
        ("nginx: several connections where each is slow", several),
        ("nginx: a redirect is followed", redirected),
        ("nginx: a limit of connections is kept to", few),
        ("nginx: TLS with a certificate authority of one's own", tls),
        ("nginx: a list, a missing file in it", listed),
        ("nginx: SIGKILL, and on it goes", killed),
        ("nginx: a server that stops and comes back", restarted),
        ("nginx: a file that changes is never mixed", changed),
        ("Python's http.server: a file comes whole, without ranges", python_server),
        ("resumed: verified, repaired, resumed from an older file", verified),
        ("a disk that gets full is exit code 7", full),
    ]:
        bench.check(name, check, get, web)


class Web:
    """nginx with a folder of its own."""

    def __init__(self, bench, nginx):
        self.bench, self.nginx = bench, nginx
        self.folder = bench.folder / "nginx"
        self.root = self.folder / "root"
        self.root.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.bench.folder.chmod(0o755)
        self.port, self.tls = free_port(), free_port()
        config = CONFIG.format(port=self.port, tls=self.tls, root=self.root)
        if os.geteuid() == 0:
            config = "user root;" + config
        (self.folder / "nginx.conf").write_text(config)
        prepare.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-addext", "basicConstraints=critical,CA:FALSE"],
            self.folder,
        )

    def start(self):
        command = [self.nginx, "-p", str(self.folder), "-c", "nginx.conf"]
        self.process = self.bench.processes.spawn(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure("nginx does not listen")

    def stop(self):
        self.bench.processes.kill(self.process)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}"


class Get:
    """Runs `resumed get` in a new folder each time."""

    def __init__(self, bench, source):
        self.bench, self.source = bench, source
        self.binary = pathlib.Path(bench.binary).resolve()
        self.count = 0

    def folder(self):
        self.count += 1
        folder = self.bench.folder / f"get-{self.count}"
        folder.mkdir()
        return folder

    def start(self, folder, *arguments):
        command = [str(self.binary), "get", "--json", *map(str, arguments)]
        return self.bench.processes.spawn(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, folder, *arguments, code=0):
        """Runs it to its end; the events it printed."""
        process = self.start(folder, *arguments)
        try:
            out, error = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.bench.processes.kill(process)
            raise Failure("it did not end in time") from None
        expect(process.returncode == code, f"exit code {process.returncode}, not {code}: {out}{error}"[:600])
        return [json.loads(line) for line in out.splitlines()]

    def expect_same(self, path):
        expect(path.read_bytes() == self.source.path.read_bytes(), f"{path.name} has other bytes")
        left = [entry.name for entry in path.parent.iterdir() if ".part" in entry.name]
        expect(not left, f"left behind: {left}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def whole(get, web):
    folder = get.folder()
    get.run(folder, web.url(get.source.path.name))
    get.expect_same(folder / get.source.path.name)
    get.run(folder, web.url(get.source.path.name), code=2)


def several(get, web):
    folder, begin = get.folder(), time.monotonic()
    get.run(folder, "-o", "x", web.url(f"slow/{get.source.path.name}"))
    get.expect_same(folder / "x")
    took = time.monotonic() - begin
    expect(took < 6, f"12 MiB at 1 MiB/s a connection took {took:.1f} s")
    return f"{took:.1f} s"


def redirected(get, web):
    folder = get.folder()
    get.run(folder, "-o", "x", web.url(f"moved/{get.source.path.name}"))
    get.expect_same(folder / "x")


def few(get, web):
    folder = get.folder()
    get.run(folder, "-o", "x", web.url(f"few/{get.source.path.name}"))
    get.expect_same(folder / "x")


def tls(get, web):
    folder, name = get.folder(), get.source.path.name
    url = f"https://localhost:{web.tls}/{name}"
    get.run(folder, "-o", "x", url, code=3)
    get.run(folder, "-o", "x", "--ca-file", web.folder / "cert.pem", url)
    get.expect_same(folder / "x")


def listed(get, web):
    folder, name = get.folder(), get.source.path.name
    (folder / "list").write_text(f"{web.url('missing')}\n{web.url(name)}\n")
    get.run(folder, "-i", "list", code=4)
    get.expect_same(folder / name)


def grown(path, times):
    """Waits until the file has grown so often: by a MiB that is kept, or at first by what comes before."""
    size, until = path.stat().st_size if path.exists() else 0, time.monotonic() + TIMEOUT_S
    while times > 0:
        expect(time.monotonic() < until, f"{path.name} does not grow")
        time.sleep(0.01)
        now = path.stat().st_size if path.exists() else 0
        times -= now > size
        size = now


def killed(get, web):
    folder, url, moved = get.folder(), web.url(f"slow/{get.source.path.name}"), 0
    for _ in range(4):
        process = get.start(folder, "-c", "1", "-o", "x", url)
        grown(folder / "x.part.journal", times=2)
        get.bench.processes.kill(process)
        process.stdout.close(), process.stderr.close()
    events = get.run(folder, "-o", "x", url)
    moved = events[-1]["moved_bytes"]
    get.expect_same(folder / "x")
    expect(moved < get.source.length - 4 * MIB, f"the last run moved {moved} bytes again")
    return f"the last of five runs moved {moved / MIB:.1f} MiB of 12"


def restarted(get, web):
    folder = get.folder()
    process = get.start(folder, "-c", "2", "-o", "x", web.url(f"slow/{get.source.path.name}"))
    time.sleep(1)
    web.stop()
    time.sleep(1)
    web.start()
    process.communicate(timeout=TIMEOUT_S)
    expect(process.returncode == 0, f"exit code {process.returncode}")
    get.expect_same(folder / "x")


def changed(get, web):
    folder, path = get.folder(), web.root / "changes"
    old, new = os.urandom(6 * MIB), os.urandom(6 * MIB)
    for flags, code in [([], 0), (["--no-restart"], 5)]:
        path.write_bytes(old)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        process = get.start(folder, *flags, "-c", "2", "-o", f"x{code}", web.url("slow/changes"))
        time.sleep(1)
        (web.root / "new").write_bytes(new)
        (web.root / "new").rename(path)
        web.stop()
        web.start()
        process.communicate(timeout=TIMEOUT_S)
        expect(process.returncode == code, f"exit code {process.returncode}, not {code}")
    expect((folder / "x0").read_bytes() == new, "the file is neither the old one nor the new one")
    expect(not (folder / "x5").exists(), "a file that changed got its name")


def python_server(get, web):
    port, folder = free_port(), get.folder()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    command += ["--directory", str(web.root)]
    server = get.bench.processes.spawn(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
            break
        except OSError:
            time.sleep(0.05)
    url = f"http://127.0.0.1:{port}/{get.source.path.name}"
    events = get.run(folder, "-o", "x", "--expect", f"sha256:{get.source.sha256}", url)
    get.expect_same(folder / "x")
    expect(any("no ranges" in event.get("message", "") for event in events), "it does not say so")
    get.bench.processes.kill(server)


def verified(get, web):
    folder = get.folder()
    with get.bench.server("get") as server:
        url = tus.create(server.url, get.source.length)
        content = get.source.path.read_bytes()
        headers = tus.TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        status, _, _ = tus.ask("PATCH", url, headers, content)
        expect(status == 204, f"the upload was answered {status}")
        get.run(folder, "-o", "x", url)
        get.expect_same(folder / "x")
        damaged = bytearray(content)
        damaged[5 * MIB] ^= 1
        (folder / "x").write_bytes(damaged[: 9 * MIB])
        get.run(folder, "-o", "x", url, code=2)
        events = get.run(folder, "--force", "-o", "x", url)
        get.expect_same(folder / "x")
        moved = events[-1]["moved_bytes"]
        expect(moved == get.source.length - 8 * MIB, f"{moved} bytes were moved for a repair")
        get.run(folder, "-o", "y", "--expect", "blake3:" + "0" * 64, url, code=6)


def full(get, web):
    folder = get.folder()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skip(f"no file system can be mounted here: {mounted.stderr}")
    try:
        get.run(folder, "-o", "x", web.url(get.source.path.name), code=7)
        used = shutil.disk_usage(folder).used
        expect(used < MIB, f"{used} bytes were fetched before the lack of room was noticed")
    finally:
        subprocess.run(["umount", str(folder)], stdin=subprocess.DEVNULL, check=True)
