"""Processes that a run starts: each is stopped by its id, whatever happens."""
import collections
import json
import os
import queue
import signal
import subprocess
import threading
import time

from .report import Failure


class Processes:
    """Owns every process of a run; leaving the `with` block kills what is left.

    Each is the leader of a process group, so that what it started (a browser) ends with it.
    """

    def __init__(self):
        self._running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in list(self._running):
            self.kill(process)

    def spawn(self, command, **options):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
        self._running.append(process)
        return process

    def kill(self, process):
        """SIGKILL, and waits until the process is gone. Harmless when it already is."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        if process in self._running:
            self._running.remove(process)

    def finished(self, process, timeout_s):
        """Waits for the end of a process and returns its exit code."""
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise Failure(f"the client did not end within {timeout_s} s") from None
        self._running.remove(process)
        return code


class Client:
    """A client program that prints one JSON event a line, read while it runs."""

    def __init__(self, processes, command, timeout_s=180, env=None):
        self._processes = processes
        self._deadline = time.monotonic() + timeout_s
        self.process = processes.spawn(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        self._lines = queue.Queue()
        self._last_words = collections.deque(maxlen=20)
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_events(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            self._last_words.append(line.strip())

    def events(self):
        """Yields events until the client closes its output."""
        while True:
            left_s = self._deadline - time.monotonic()
            try:
                line = self._lines.get(timeout=max(left_s, 0.001))
            except queue.Empty:
                self.kill()
                raise Failure("the client did not end in time") from None
            if line is None:
                return
            if line.startswith("{"):
                yield json.loads(line)

    def kill(self):
        self._processes.kill(self.process)

    def reaches(self, place, timeout_s=120):
        """Waits until `place` (an event) is set; a client that ends before has failed."""
        deadline = time.monotonic() + timeout_s
        while not place.wait(0.2):
            if self.process.poll() is not None:
                self.wait()
                raise Failure("the client ended before the place where it was to be stopped")
            if time.monotonic() > deadline:
                raise Failure("the client did not come to the place where it was to be stopped")

    def wait(self):
        """Reads to the end; returns the events. Fails when the client says it failed."""
        events = list(self.events())
        code = self._processes.finished(self.process, 30)
        self._readers[1].join(5)
        errors = [event for event in events if event["event"] in ("error", "failed")]
        if errors:
            raise Failure(f"client: {errors[0]['message']}")
        if code != 0:
            raise Failure(f"client ended with {code}: {' | '.join(self._last_words)}")
        return events


def one(events, kind):
    """The first event of a kind; fails when the client sent none."""
    for event in events:
        if event["event"] == kind:
            return event
    raise Failure(f"the client reported no '{kind}'")
