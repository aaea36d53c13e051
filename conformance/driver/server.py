"""The server under test as a process: start, kill, start again on the same port and folder."""
import os
import pathlib
import queue
import re
import signal
import subprocess
import threading

from .report import Failure

READY_TIMEOUT_S = 30


class Server:
    """One server with its own data folder. Use as a context manager."""

    # Its URL and its port in the ready line.
    ready = re.compile(r"upload to (http://127\.0\.0\.1:(\d+)(/\S*?)),? ")

    def __init__(self, processes, binary, folder, name, arguments=()):
        self._processes = processes
        self._binary = binary
        self._data = pathlib.Path(folder) / f"{name}-data"
        self._log_path = pathlib.Path(folder) / f"{name}.log"
        self._arguments = list(arguments)
        self._process = None
        self._port = 0
        self.url = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        """Starts the server and waits for its ready line; the port stays the same from then on."""
        with open(self._log_path, "ab") as log:
            self._process = self._processes.spawn(
                self._command(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self._ready_line()
        found = self.ready.search(line)
        if not found:
            raise Failure(f"no ready line from the server but {line!r}; {self.last_words()}")
        self.url, self._port = found[1], int(found[2])

    def _command(self):
        command = [str(self._binary), "serve", "--listen", f"127.0.0.1:{self._port}"]
        return [*command, "--data-dir", str(self._data), "--base-path", "/files/", *self._arguments]

    def _ready_line(self):
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, lines), daemon=True).start()
        try:
            return lines.get(timeout=READY_TIMEOUT_S)
        except queue.Empty:
            raise Failure(f"no ready line within {READY_TIMEOUT_S} s") from None

    @staticmethod
    def _read(process, lines):
        lines.put(process.stdout.readline())
        while process.stdout.read(4096):
            pass

    def kill(self):
        """SIGKILL: no goodbye, as a crash would be."""
        if self._process is not None:
            self._processes.kill(self._process)
            self._process = None

    def stop(self, timeout_s=30):
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._processes.finished(self._process, timeout_s)
        self._process = None
        return code

    def has_died(self):
        """Whether it ended though nobody stopped it."""
        return self._process is not None and self._process.poll() is not None

    def cpu_s(self):
        """Processor time used so far, from /proc."""
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_memory_kib(self):
        """The most resident memory since the start, from /proc."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])

    def last_words(self):
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "its log ends: " + " | ".join(lines[-3:])
