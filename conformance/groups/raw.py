"""Raw exchanges, one case after the other, against any server's URL."""
import urllib.parse

from driver import cases, http
from driver.exchange import Dialogue
from driver.files import MIB
from driver.report import Skip

# Small, so that a case may send one byte more than the server takes.
MAX_LENGTH = "16MiB"
SMALL_BYTES = 16 * MIB


def run(bench):
    if bench.url:
        run_against(bench, bench.url)
        return
    with bench.server("raw", "--max-length", MAX_LENGTH, "--expire-after", "24h", "--sha256", "on") as server:
        run_against(bench, server.url)


def run_against(bench, url):
    parts = urllib.parse.urlsplit(url)
    address = (parts.hostname, parts.port or 80)
    offered, variables = capabilities(url)
    variables |= {"host": parts.netloc, "base": parts.path, "origin": f"http://{parts.netloc}"}
    for case in cases.load_cases():
        area = case.file.removesuffix(".case").partition("-")[2]
        name = f"{area}: {case.name}"
        bench.check(name, run_case, case, address, offered, variables, clauses=case.clauses)


def run_case(case, address, offered, variables):
    lacking = [need for need in case.needs if need not in offered]
    if lacking:
        raise Skip(f"the server does not offer {', '.join(lacking)}")
    with Dialogue(address, variables) as dialogue:
        for exchange in case.exchanges:
            dialogue.run(exchange)


def capabilities(url):
    """What OPTIONS says: the extensions, `max-size` when there is one, `ietf`, and what follows."""
    _, headers, _ = http.ask("OPTIONS", url)
    offered = {name.strip() for name in headers.get("Tus-Extension", "").split(",")}
    variables = {"extensions": headers.get("Tus-Extension", "")}
    _, told, _ = http.ask("GET", http.create(url, 0), {"Want-Repr-Digest": "sha-256=10"})
    offered |= {name.lower() for name in ("Repr-Digest", "Upload-Blake3") if name in told}
    offered |= {"ietf"} if "Upload-Limit" in headers else set()
    if "Tus-Max-Size" in headers:
        offered.add("max-size")
        most = int(headers["Tus-Max-Size"])
        offered |= {"small-max-size"} if most == SMALL_BYTES else set()
        variables |= {"max_size": str(most), "over_max": str(most + 1)}
    offered |= {name.strip() for name in headers.get("Tus-Checksum-Algorithm", "").split(",")}
    return offered, variables
