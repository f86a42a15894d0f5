"""Raw text to clean text, and the form in which two texts count as the same."""

import hashlib
import re
from collections.abc import Callable, Sequence

from uda.data.settings import Cleaning

# The official recipe for IMDb: (pattern, replacement), applied in this order.
_HTML_RULES = [
    (re.compile(r"<br />|<p>"), " "),
    (re.compile(r"&quot;"), '"'),
    (re.compile(r"<a href=[^>]*>|</a>"), ""),
    (re.compile(r"\\n|\\"), " "),
]


def clean(text: str, cleaning: Cleaning) -> str:
    """The text as the encoder sees it."""
    if cleaning is Cleaning.html:
        for pattern, replacement in _HTML_RULES:
            text = pattern.sub(replacement, text)
    return text


def content_hash(text: str, salt: str = "") -> str:
    """SHA-256 of a text, in hexadecimal digits; with a salt, of both, parted by a NUL."""
    return hashlib.sha256(f"{salt}\0{text}".encode() if salt else text.encode()).hexdigest()


def folded_hash(text: str) -> str:
    """Equal for texts that differ in white space alone."""
    return content_hash(" ".join(text.split()))


def row_hash(texts: Sequence[str], one: Callable[[str], str]) -> str:
    """The hash of a row: that of its text; of a pair the one over both texts' hashes, in order."""
    return one(texts[0]) if len(texts) == 1 else content_hash("".join(one(text) for text in texts))
