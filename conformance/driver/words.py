"""What stands in braces in a case, and escapes: turned into the bytes that go on the wire."""
import base64
import hashlib
import re

from .report import Failure

ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[rnt\\])")
ESCAPED = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
BRACES = re.compile(rb"\{(\w+)(?::([^{}]*))?\}")


def digest(name):
    return lambda data: base64.b64encode(hashlib.new(name, data).digest())


def repeated(data):
    """`100:ab` is `ab` a hundred times."""
    count, _, unit = data.partition(b":")
    return unit * int(count)


FUNCTIONS = {
    b"b64": base64.b64encode,
    b"repeat": repeated,
    b"md5": digest("md5"),
    b"sha1": digest("sha1"),
    b"sha256": digest("sha256"),
    b"sha512": digest("sha512"),
    b"sha1hex": lambda data: base64.b64encode(hashlib.sha1(data).hexdigest().encode()),
}


def to_bytes(text, variables):
    """The bytes of one line of a request: escapes first, then what stands in braces."""
    return fill(ESCAPE.sub(unescape, text.encode()), variables)


def to_pattern(text, variables):
    """A pattern with its braces filled in, so that what they stand for matches itself."""
    quoted = {name: re.escape(value) for name, value in variables.items()}
    return fill(text.encode(), quoted).decode("latin-1")


def unescape(found):
    code = found[1]
    return bytes([int(code[1:], 16)]) if code[:1] == b"x" else ESCAPED[code]


def fill(data, variables):
    def value(found):
        name, argument = found[1], found[2]
        if argument is not None and name in FUNCTIONS:
            return FUNCTIONS[name](argument)
        if argument is None and name.decode() in variables:
            return variables[name.decode()].encode("latin-1")
        if name.isdigit() or argument is not None:
            return found[0]  # a count in a pattern, such as \d{4}
        raise Failure(f"nothing was captured as {{{name.decode()}}}")

    return BRACES.sub(value, data)
