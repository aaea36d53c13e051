"""The format of raw cases: files of exchanges, read into plain objects. conformance/README.md
explains it to who writes one."""
import dataclasses
import pathlib

from .prepare import CONFORMANCE

CASES = CONFORMANCE / "cases"


@dataclasses.dataclass
class Exchange:
    """One request and what is expected of its answer, as lines."""

    line: int
    request: list = dataclasses.field(default_factory=list)
    expected: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Case:
    """Exchanges that show one thing, after the exchanges of what is `given`."""

    name: str
    file: str
    line: int
    clauses: list = dataclasses.field(default_factory=list)
    needs: list = dataclasses.field(default_factory=list)
    given: list = dataclasses.field(default_factory=list)
    exchanges: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Clause:
    """One sentence of a specification that binds a server."""

    id: str
    level: str
    text: str
    note: str


class BadCase(Exception):
    """A case file that breaks its own format: file, line, and what is wrong."""


def load_cases():
    """All cases, by file and order in it; every clause they name has to exist."""
    states = {case.name: case for case in read_file(CASES / "given.case")}
    known = {clause.id for _, clauses in load_clauses() for clause in clauses}
    cases = []
    for path in sorted(CASES.glob("*.case")):
        if path.name != "given.case":
            cases += read_file(path)
    for case in cases:
        for name in case.given:
            if name not in states:
                raise BadCase(f"{case.file}:{case.line}: nothing is given as '{name}'")
        for clause in case.clauses:
            if clause not in known:
                raise BadCase(f"{case.file}:{case.line}: no clause '{clause}' in clauses.txt")
        first = [exchange for name in case.given for exchange in states[name].exchanges]
        case.exchanges = first + case.exchanges
    return cases


def read_file(path):
    """The cases of one file."""
    cases, exchange, begins = [], None, True
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            begins = True
            continue
        where = f"{path.name}:{number}"
        if line.startswith("== "):
            cases.append(Case(line[3:].strip(), path.name, number))
            exchange = None
        elif not cases:
            raise BadCase(f"{where}: a case begins with '== its name'")
        elif line.startswith("> "):
            if exchange is None or begins or exchange.expected:
                exchange = Exchange(number)
                cases[-1].exchanges.append(exchange)
                begins = False
            exchange.request.append(line[2:])
        elif line.startswith("< "):
            if exchange is None:
                raise BadCase(f"{where}: an expectation before any request")
            exchange.expected.append(line[2:].strip())
        else:
            read_heading(cases[-1], line, where)
    return cases


def read_heading(case, line, where):
    key, _, value = line.partition(":")
    values = [part.strip() for part in value.split(",") if part.strip()]
    if key == "clause":
        case.clauses += values
    elif key == "needs":
        case.needs += values
    elif key == "given":
        case.given += values
    else:
        raise BadCase(f"{where}: '{key}' is none of clause, needs, given")


def load_clauses():
    """Sections with their clauses: [(title, [Clause])], in the order of the specification."""
    sections = []
    for number, line in enumerate((CASES / "clauses.txt").read_text().splitlines(), 1):
        if line.startswith("== "):
            sections.append((line[3:].strip(), []))
        elif line.strip() and not line.startswith("#"):
            parts = [part.strip() for part in line.split("|")]
            if len(parts) not in (3, 4) or not sections:
                raise BadCase(f"clauses.txt:{number}: not 'id | level | text [| note]'")
            sections[-1][1].append(Clause(*parts, *[""] * (4 - len(parts))))
    return sections
