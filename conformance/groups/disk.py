"""A disk that gets full: a small file system in memory, where this user may mount one."""
import base64
import shutil
import subprocess

from driver import http
from driver.files import GIB, MIB
from driver.report import Skip, expect

from .takeover import patch

# The server keeps 32 of them for opening its records when the disk is full.
DISK_MIB = 80
STEP_BYTES = 4 * MIB


def run(bench):
    folder = bench.folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )
    if mounted.returncode != 0:
        bench.check("a full disk", lacking, mounted.stderr)
        return
    try:
        with bench.server("disk", folder=folder) as server:
            bench.check("an upload that cannot fit is refused at its creation", too_long, server)
            bench.check("a full disk is 507, and keeps what was acknowledged", full, server, folder,
                        clauses=["peer-11", "termination-3"])
        beside = folder / "records"
        beside.mkdir()
        with bench.server("disk", "--min-free", "1MiB", folder=beside) as server:
            bench.check("what records take leaves the room to remove all of them", records, server)
    finally:
        subprocess.run(["umount", str(folder)], stdin=subprocess.DEVNULL, check=True)


def lacking(why):
    raise Skip(f"no file system can be mounted here: {why}")


def too_long(server):
    status, _, _ = http.ask("POST", server.url, http.TUS | {"Upload-Length": str(GIB)})
    expect(status == 507, f"a creation of 1 GiB on {DISK_MIB} MiB was answered {status}")


def full(server, folder):
    headers = http.TUS | {"Upload-Defer-Length": "1"}
    _, headers, _ = http.ask("POST", server.url, headers)
    url, promised = headers["Location"], 0
    while True:
        status, headers, content = patch(url, promised, b"x" * STEP_BYTES)
        if status != 204:
            break
        promised = int(headers["Upload-Offset"])
        expect(promised < DISK_MIB * MIB, "more was acknowledged than fits on the disk")
    expect(status == 507, f"an append on a full disk was answered {status}")
    expect(str(folder).encode() not in content, f"the answer names a path: {content!r}")
    expect(http.offset(url) >= promised, "an acknowledged offset went back")
    used_full = shutil.disk_usage(folder).used
    status, _, _ = http.ask("DELETE", url, http.TUS)
    expect(status == 204, f"DELETE on a full disk was answered {status}")
    url = http.create(server.url, STEP_BYTES)
    status, _, _ = patch(url, 0, b"x" * STEP_BYTES)
    expect(status == 204, f"after the DELETE there is room, but PATCH was answered {status}")
    used = shutil.disk_usage(folder).used
    expect(used < used_full - promised + 2 * STEP_BYTES, "the DELETE freed no room")
    return f"full after {promised // MIB} MiB"


def records(server):
    """What is kept free is less than some thousand removals take."""
    metadata = "filename " + base64.b64encode(b"x" * 900).decode()
    urls, status = [], 201
    while status == 201:
        expect(len(urls) < 20_000, "records of 20,000 uploads were taken")
        status, headers, _ = http.ask(
            "POST", server.url, http.TUS | {"Upload-Defer-Length": "1", "Upload-Metadata": metadata})
        if status == 201:
            urls.append(headers["Location"])
    expect(status == 507, f"a creation on a full disk was answered {status}")
    expect(len(urls) > 50, f"the disk was full after {len(urls)} creations")
    status, _, _ = patch(urls[0], 0, b"x")
    expect(status == 507, f"an append on a full disk was answered {status}")
    for url in urls:
        status, _, _ = http.ask("DELETE", url, http.TUS)
        expect(status == 204, f"DELETE was answered {status}")
    return f"full after {len(urls)} creations"
