"""Files to upload, the same bytes in every run, and the digest of what a server gives back."""
import hashlib
import random
import urllib.error
import urllib.request

from .report import Failure

BLOCK_BYTES = 1024 * 1024
KIB, MIB, GIB = 1024, 1024 * 1024, 1024 * 1024 * 1024


class SourceFile:
    """A file of pseudo-random bytes with its SHA-256."""

    def __init__(self, folder, length, seed=1):
        self.path = folder / f"source-{length}-{seed}"
        self.length = length
        numbers, digest, left = random.Random(seed), hashlib.sha256(), length
        with open(self.path, "wb") as file:
            while left > 0:
                block = numbers.randbytes(min(left, BLOCK_BYTES))
                file.write(block)
                digest.update(block)
                left -= len(block)
        self.sha256 = digest.hexdigest()


def downloaded_sha256(url, timeout_s=120):
    """GETs a URL to the end; returns the length and the SHA-256 of the content."""
    digest, length = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            while block := answer.read(BLOCK_BYTES):
                digest.update(block)
                length += len(block)
    except urllib.error.HTTPError as refused:
        raise Failure(f"GET answered {refused.code}: {refused.read(200)!r}") from None
    return length, digest.hexdigest()
