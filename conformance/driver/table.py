"""The table clause → cases → result, as Markdown."""
from .cases import load_clauses

HEADING = "## Every clause\n"


def write_into(readme, shown):
    """Replaces what stands after the heading of the table, which is the end of the page."""
    before = readme.read_text().partition(HEADING)[0]
    readme.write_text(f"{before}{HEADING}\n{markdown(shown)}")


def markdown(shown):
    """`shown` is [(clause, name of the check, passed | failed | skipped)]."""
    by_clause = {}
    for clause, name, outcome in shown:
        by_clause.setdefault(clause, []).append((name, outcome))
    lines = []
    for title, clauses in load_clauses():
        lines += [f"### {title}", "", "| clause | level | what it asks | shown by | result |",
                  "|---|---|---|---|---|"]
        lines += [row(clause, by_clause.get(clause.id, [])) for clause in clauses]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def row(clause, shown):
    names = "; ".join(name for name, _ in shown)
    text = clause.text + (f" *{clause.note}*" if clause.note else "")
    cells = [clause.id, clause.level, text, names or "–", verdict([o for _, o in shown])]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def verdict(outcomes):
    if not outcomes:
        return "–"
    failed = outcomes.count("failed")
    if failed:
        return f"**{failed} of {len(outcomes)} failed**"
    skipped = outcomes.count("skipped")
    if skipped == len(outcomes):
        return "skipped"
    return f"passed, {skipped} skipped" if skipped else "passed"
