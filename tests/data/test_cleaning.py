import hashlib

import pytest

from uda.data.cleaning import clean, content_hash, folded_hash
from uda.data.settings import Cleaning


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("good<br /><br />bad", "good  bad"),
        ("good<p>bad", "good bad"),
        ("a &quot;good&quot; film", 'a "good" film'),
        ('see <a href="http://x.org/?a=1">this</a> now', "see this now"),
        ("see <a href=x\ntarget=y>this</a>", "see this"),
        ("<a href=&quot;x&quot;>this</a>", "this"),
        ("<a href=x>one</a> > <a href=y>two</a>", "one > two"),
        (r"good\nbad", "good bad"),  # a backslash and an n are one space, not a space and an n
        (r"good\bad \\ ugly", "good bad    ugly"),
        ("a real\nline", "a real\nline"),
        ("<b>bold</b> <br> <br/> </p> &amp; it's", "<b>bold</b> <br> <br/> </p> &amp; it's"),  # not in the recipe
    ],
)
def test_html_rules(raw: str, cleaned: str) -> None:
    assert clean(raw, Cleaning.html) == cleaned


def test_no_cleaning_leaves_everything() -> None:
    raw = r'<br /><p>&quot;<a href="x">y</a>\n\ '
    assert clean(raw, Cleaning.none) == raw


def test_content_hash() -> None:
    # The example of FIPS 180-2.
    assert content_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_hash("café") == hashlib.sha256(b"caf\xc3\xa9").hexdigest()
    assert content_hash("abc", "7") == hashlib.sha256(b"7\x00abc").hexdigest()
    assert content_hash("1abc", "7") != content_hash("abc", "71")


def test_folded_hash_sees_words_and_no_white_space() -> None:
    folded = content_hash("a good film")
    assert {folded_hash(text) for text in ("a good film", "  a\tgood\r\n\nfilm ", "a\u00a0good\u2003film")} == {folded}
    assert folded not in {folded_hash(text) for text in ("A good film", "a goodfilm", "a good film.", "good a film")}
