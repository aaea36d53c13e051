"""What a fresh machine lacks: the server's binary and the clients, by ordinary package managers."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

from .report import Failure

CONFORMANCE = pathlib.Path(__file__).resolve().parent.parent
ROOT = CONFORMANCE.parent
JS = CONFORMANCE / "clients" / "js"
SERVERS = CONFORMANCE / "servers" / "js"
PY = CONFORMANCE / "clients" / "py"
PYTHON = PY / ".venv" / "bin" / "python"
INSTALL_TIMEOUT_S = 900
RESULT = re.compile(r"^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
SKIPPED_TEST = re.compile(r"^SKIPPED (\S+): (.+)$", re.M)
FAILED_TEST = re.compile(r"^test (.+) \.\.\. FAILED$", re.M)


def build_server():
    """Builds the release binary and returns its path."""
    run(["cargo", "build", "--release", "--locked"], ROOT, quiet=False)
    return ROOT / "target" / "release" / "resumed"


def rust_tests(report):
    """Runs the crate's own tests and adds their numbers to the report."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "--no-fail-fast"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    results = [tuple(map(int, numbers)) for numbers in RESULT.findall(done.stdout)]
    passed, failed, ignored = (sum(column) for column in zip(*results)) if results else (0, 0, 0)
    report.passed += passed
    report.skipped += ignored
    print(f"     rust: {passed} tests passed, {failed} failed, {ignored} ignored", flush=True)
    # A test that finds that it cannot show anything here; the runner takes it for passed.
    for name, why in dict(SKIPPED_TEST.findall(done.stdout)).items():
        report.skip(f"rust: {name}", why)
        report.passed -= 1
    for name in FAILED_TEST.findall(done.stdout):
        report.fail(f"rust: {name}", "run `cargo test` to see it")
        failed -= 1
    if done.returncode != 0 and not FAILED_TEST.search(done.stdout):
        report.fail("rust: cargo test", f"ended with {done.returncode}; its output is above")


def javascript(folder=JS):
    """Installs the pinned npm packages unless the lock file's are there already."""
    installed = folder / "node_modules" / ".package-lock.json"
    lock = folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run(["npm", "ci", "--omit=optional", "--no-audit", "--no-fund"], folder)
        installed.touch()


def python():
    """Installs the pinned PyPI packages into a virtual environment of their own."""
    done, wanted = PY / ".venv" / "installed.txt", (PY / "requirements.txt").read_text()
    if not done.exists() or done.read_text() != wanted:
        run([sys.executable, "-m", "venv", "--clear", PY / ".venv"], PY)
        run([PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes",
             "--disable-pip-version-check", "-r", PY / "requirements.txt"], PY)
        done.write_text(wanted)


def debian(program, package):
    """Finds a program, or installs its Debian package; returns the program's path."""
    if not shutil.which(program):
        install = ["apt-get", "install", "-y", "--no-install-recommends", package]
        try:
            run(install, ROOT)
        except Failure:  # a fresh machine has no package lists yet
            run(["apt-get", "update"], ROOT)
            run(install, ROOT)
    found = shutil.which(program)
    if not found:
        raise Failure(f"{package} is installed but there is no {program}")
    return found


def run(command, folder, quiet=True):
    """Runs an install step to its end; fails with the end of what it said."""
    command = [str(part) for part in command]
    output = subprocess.PIPE if quiet else None
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, text=True, timeout=INSTALL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"`{' '.join(command[:3])} …`: {error}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-400:] if quiet else "see above"
        raise Failure(f"`{' '.join(command[:3])} …` ended with {done.returncode}: {said}")
