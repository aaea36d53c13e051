"""Peers that are slow, or say nothing, on a server whose patience is short."""
import contextlib
import time
import urllib.parse

from driver import http
from driver.report import expect
from driver.wire import NoAnswer

from .takeover import connect, patch_head

PATIENCE = ["--header-timeout", "1s", "--idle-timeout", "1s",
            "--min-rate", "1KiB", "--min-rate-grace", "1s"]
END_WITHIN_S = 10
SILENT_PEERS = 400
ANSWER_MS = 1000


def run(bench):
    with bench.server("slow", *PATIENCE) as server:
        for name, check, clauses in [
            ("a connection that says nothing is closed", silent, ["core-25", "core-26"]),
            ("a head that never ends is closed", half_head, ["core-25", "core-26"]),
            ("content that stops is ended, what came is kept", stopped,
             ["core-25", "core-26", "core-27"]),
            ("content that drips is ended, what came is kept", dripping, ["core-25", "core-27"]),
            (f"{SILENT_PEERS} silent connections hold nobody up", crowd, []),
        ]:
            bench.check(name, check, server, clauses=clauses)


def expect_end(connection):
    """The server answers 408 or not, and closes."""
    with contextlib.suppress(NoAnswer):
        status = connection.response("PATCH").status
        expect(status == 408, f"answered {status}, not 408 or nothing")
    expect(connection.closed_by_server(), "the connection was left open")


def silent(server):
    expect_end(connect(server))


def half_head(server):
    connection = connect(server)
    connection.send(b"OPTIONS /files/ HTTP/1.1\r\nHost: a\r\nX-Fie")
    expect_end(connection)


def stopped(server):
    url = http.create(server.url, 10)
    connection = connect(server)
    connection.send(patch_head(url, 0, 10) + b"01234")
    expect_end(connection)
    expect(http.offset(url) == 5, f"{http.offset(url)} of 5 bytes are kept")


def dripping(server):
    """Ten bytes a second where 1 KiB is the least; each comes long before the idle timeout."""
    url = http.create(server.url, 1000)
    connection = connect(server)
    connection.send(patch_head(url, 0, 1000))
    started, sent = time.monotonic(), 0
    while not connection.has_answer(0.1):
        expect(time.monotonic() - started < END_WITHIN_S, f"{sent} bytes dripped in unhindered")
        connection.send(b"x")
        sent += 1
    expect_end(connection)
    expect(0 < http.offset(url) <= sent, f"{http.offset(url)} of {sent} bytes are kept")


def crowd(server):
    parts = urllib.parse.urlsplit(server.url)
    head = f"PATCH /files/x HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
    silent_peers = [connect(server) for _ in range(SILENT_PEERS)]
    for peer in silent_peers:
        peer.send(head)
    started = time.monotonic()
    http.offset(http.create(server.url, 10))
    took_ms = int((time.monotonic() - started) * 1000)
    for peer in silent_peers:
        peer.close()
    expect(took_ms <= ANSWER_MS, f"another client waited {took_ms} ms")
    return f"{took_ms} ms"
