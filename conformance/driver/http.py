"""Short questions to a server over plain HTTP, for checks that need no raw bytes."""
import urllib.error
import urllib.parse
import urllib.request

from .files import downloaded_sha256
from .report import expect

TUS = {"Tus-Resumable": "1.0.0"}


def ask(method, url, headers=None, content=None):
    """Sends one request; returns status, headers and content, for errors too."""
    request = urllib.request.Request(url, content, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, refused.read()


def extensions(url):
    """The tus extensions that a server advertises."""
    _, headers, _ = ask("OPTIONS", url)
    return {name.strip() for name in headers.get("Tus-Extension", "").split(",")}


def create(url, length, metadata=None):
    """Creates a tus upload; returns its absolute URL."""
    headers = TUS | {"Upload-Length": str(length)}
    if metadata:
        headers["Upload-Metadata"] = metadata
    status, headers, _ = ask("POST", url, headers)
    expect(status == 201, f"POST answered {status}, not 201")
    return urllib.parse.urljoin(url, headers["Location"])


def offset(upload_url):
    """The offset that HEAD tells."""
    status, headers, _ = ask("HEAD", upload_url, TUS)
    expect(status in (200, 204), f"HEAD answered {status}")
    return int(headers["Upload-Offset"])


def expect_same_file(upload_url, source):
    """Downloads an upload and compares length and SHA-256 with the file it came from."""
    length, sha256 = downloaded_sha256(upload_url)
    expect(length == source.length, f"{length} bytes came back of {source.length}")
    expect(sha256 == source.sha256, "the downloaded bytes are not those that were uploaded")
