"""The command line of `conformance/run`: chooses groups, runs them, ends with the summary."""
import argparse
import importlib
import pathlib
import shutil
import signal
import sys
import tempfile

from . import prepare, table
from .processes import Processes
from .report import Failure, Report
from .server import Server

GROUPS = {
    "raw": "raw exchanges: every clause of tus and of HTTP that the server promises",
    "takeover": "requests that meet at one upload",
    "slow": "peers that are slow or say nothing",
    "crash": "SIGKILL and SIGTERM in the middle",
    "disk": "a disk that gets full",
    "times": "uploads that expire",
    "js": "tus-js-client from Node",
    "ietf": "the IETF protocol: tus-js-client in its two drafts, curl, interim responses",
    "py": "tuspy and aiotus",
    "curl": "curl by hand",
    "get": "resumed get from nginx, Python's http.server and resumed",
    "digests": "digests of the whole: aria2 by a Metalink file, instant upload by tus-js-client",
    "put": "resumed put to @tus/server and resumed",
    "browser": "Uppy in headless Chromium",
}


class Bench:
    """What a group of checks works with."""

    def __init__(self, group, report, processes, folder, options):
        self.group = group
        self.report = report
        self.processes = processes
        self.folder = folder
        self.is_long = options.long
        self.url = options.url
        self.shown = []
        self.binary = options.binary
        self._servers = []

    def server(self, name, *arguments, folder=None):
        """A server with its data in a folder of its own, below `folder` if that is given."""
        folder = folder or self.folder
        server = Server(self.processes, self.binary, folder, name, arguments)
        self._servers.append(server)
        return server

    def check(self, name, check, *arguments, clauses=()):
        """Runs one check; `clauses` are those of clauses.txt that it shows."""
        outcome = self.report.run(f"{self.group}: {name}", check, *arguments)
        self.shown += [(clause, name, outcome) for clause in clauses]
        for server in self._servers:
            if server.has_died():
                self.report.fail(f"{self.group}: the server lives on", server.last_words())
                server.start()


def main(argv):
    options = parse(argv)
    chosen = options.groups or ["rust", *GROUPS]
    report = Report()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="resumed-conformance-"))
    try:
        with Processes() as processes:
            run_groups(chosen, options, report, processes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.summary(), flush=True)
    return 1 if report.failed else 0


def run_groups(chosen, options, report, processes, folder):
    if "rust" in chosen:
        prepare.rust_tests(report)
    if chosen == ["rust"]:
        return
    try:
        if not options.url and not options.binary:
            options.binary = prepare.build_server()
    except Failure as why:
        report.fail("build", why)
        return
    shown = []
    for group in chosen:
        if group != "rust":
            bench = Bench(group, report, processes, folder, options)
            report.run_group(group, importlib.import_module(f"groups.{group}").run, bench)
            shown += bench.shown
    if options.table:
        table.write_into(prepare.CONFORMANCE / "README.md", shown)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="conformance/run",
        description="Builds the server, runs its tests, and drives it with real clients.",
        epilog="groups: rust (the crate's own tests), "
        + ", ".join(f"{name} ({what})" for name, what in GROUPS.items()),
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="all of them when none is named")
    parser.add_argument("--binary", type=pathlib.Path, help="drive this binary, build nothing")
    parser.add_argument("--long", action="store_true", help="larger files")
    parser.add_argument("--url", help="send the raw exchanges to this server, start none")
    parser.add_argument("--table", action="store_true", help="write the results into README.md")
    options = parser.parse_args(argv)
    if options.url:
        options.groups = ["raw"]
    unknown = set(options.groups) - {"rust", *GROUPS}
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are rust, {', '.join(GROUPS)}")
    return options
