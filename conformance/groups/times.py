"""Uploads that expire, on a server that gives them two seconds."""
import email.utils
import time

from driver import http
from driver.report import Skip, expect

EXPIRE_AFTER = "2s"
PATIENCE_S = 30


def run(bench):
    with bench.server("times", "--expire-after", EXPIRE_AFTER) as server:
        if "expiration" not in http.extensions(server.url):
            bench.check("expiration", lacking, clauses=["expiration-5", "expiration-6"])
            return
        for name, check, clauses in [
            ("an unfinished upload is gone after its time", unfinished,
             ["expiration-5", "expiration-8"]),
            ("an expired upload is answered 410", gone, ["expiration-6"]),
            ("an append moves the time on", sliding, ["expiration-4"]),
            ("a complete upload outlives its time", complete, ["expiration-8"]),
        ]:
            bench.check(name, check, server, clauses=clauses)


def lacking():
    raise Skip("the server does not offer expiration")


def append(url, offset, content):
    headers = http.TUS | {
        "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"
    }
    status, headers, _ = http.ask("PATCH", url, headers, content)
    return status, headers


def status_after_time(url):
    """Asks until the upload is no longer there; returns what HEAD answers then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status, headers, _ = http.ask("HEAD", url, http.TUS)
        if status not in (200, 204):
            expect(headers["Upload-Offset"] is None, "HEAD still tells an Upload-Offset")
            return status
        time.sleep(0.1)
    return status


def unfinished(server):
    url = http.create(server.url, 10)
    append(url, 0, b"01234")
    status = status_after_time(url)
    expect(status in (404, 410), f"HEAD answered {status}, not 404 or 410")
    status, _ = append(url, 5, b"56789")
    expect(status in (404, 410), f"PATCH answered {status}, not 404 or 410")


def gone(server):
    status = status_after_time(http.create(server.url, 10))
    expect(status == 410, f"HEAD answered {status}")


def sliding(server):
    url = http.create(server.url, 100)
    first = expires(append(url, 0, b"x")[1])
    offset, deadline = 1, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status, headers = append(url, offset, b"x")
        expect(status == 204, f"an append in time was answered {status}")
        if expires(headers) > first:
            return
        offset += 1
        time.sleep(0.1)
    expect(False, "Upload-Expires stays where it was")


def expires(headers):
    expect(headers["Upload-Expires"], "no Upload-Expires")
    return email.utils.parsedate_to_datetime(headers["Upload-Expires"])


def complete(server):
    """Outlives an upload that was created after it and is gone."""
    url = http.create(server.url, 5)
    append(url, 0, b"01234")
    status_after_time(http.create(server.url, 10))
    status, _, content = http.ask("GET", url)
    expect(status == 200 and content == b"01234", f"GET answered {status}")
