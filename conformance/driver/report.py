"""One line a check, and the summary line at the end."""
import time
import traceback


class Failure(Exception):
    """The server, or a client with it, did not do what the check asks."""


class Skip(Exception):
    """The check does not apply to this server; the text says why."""


def expect(condition, why):
    """Fails the running check with `why` unless `condition` holds."""
    if not condition:
        raise Failure(why)


class Report:
    """Counts results, and prints each as it comes."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, name, note=""):
        self.passed += 1
        print(f"ok   {name}" + (f"  ({note})" if note else ""), flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAIL {name}: {one_line(why)}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {one_line(why)}", flush=True)

    def run(self, name, check, *arguments):
        """Runs one check; whatever it raises is a failed check, never the end of the run.

        A check returns a short note for its line, or nothing. Returns passed, failed or skipped.
        """
        started = time.monotonic()
        try:
            note = check(*arguments)
        except Skip as why:
            self.skip(name, why)
            return "skipped"
        except Failure as why:
            self.fail(name, why)
            return "failed"
        except Exception as error:  # a fault of the driver or of the set-up: say where
            self.fail(name, f"{type(error).__name__}: {error} [{place(error)}]")
            return "failed"
        took_s = time.monotonic() - started
        self.ok(name, ", ".join(filter(None, [note, f"{took_s:.1f} s" if took_s > 2 else ""])))
        return "passed"

    def run_group(self, name, group, bench):
        """Runs a group; what breaks outside its checks (an install, a start) is one failure."""
        try:
            group(bench)
        except Failure as why:
            self.fail(f"{name}: set-up", why)
        except Exception as error:
            self.fail(f"{name}: set-up", f"{type(error).__name__}: {error} [{place(error)}]")

    def summary(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def place(error):
    """Where in the driver an error came from."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.name}:{last.lineno}"


def one_line(text):
    return " ".join(str(text).split())[:600]
