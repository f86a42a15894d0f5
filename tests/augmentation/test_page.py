import re
from html.parser import HTMLParser

import numpy as np
import pytest

from uda.augmentation.agreement import label_agreement
from uda.augmentation.judgement import judge

VOID = {"meta", "line", "rect"}  # line and rect close themselves, or hold a title


class Balance(HTMLParser):
    """Follows the tags, and gathers the words that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.seen.setdefault(self.open[-1], []).append(data)

    def text(self) -> str:
        return " ".join(word for tag, words in self.seen.items() if tag != "style" for word in words)


NASTY = "<script>alert(\"1\")</script> & 'x' </p></details> &amp; <img src=http://example.org/a.png>"


@pytest.fixture
def nasty() -> str:
    pairs = [(f"{NASTY} {row}", [f"{NASTY} other \0\x1b", NASTY * 30]) for row in range(12)]
    names = ["<b>neg</b>", "pos & co"]

    def classify(texts: list[str]) -> np.ndarray:
        second = np.array([len(text) > 500 for text in texts], dtype=float)
        return np.stack([1 - second, second], axis=1)

    return judge(pairs, 12, 2, 0).with_agreement(label_agreement(pairs, 12, 2, 0, classify, names)).html("A <b> & 'c'")


def test_texts_are_escaped_and_tags_are_balanced(nasty: str) -> None:
    page = Balance(nasty)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "nav", "a", "div", "section", "article"),
        *("h1", "h2", "p", "b", "span", "ins", "del", "details", "summary", "svg", "line", "rect", "text"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert "<b>neg</b>" in page.seen["th"]
    assert page.seen["h1"] == ["A <b> & 'c'"]
    assert page.seen["title"][0] == "A <b> & 'c'"
    assert "<script>alert(" in page.text()
    assert "\0" not in nasty
    assert "\x1b" not in nasty
    assert "␀␛" in nasty


def test_nothing_is_loaded_from_elsewhere(nasty: str) -> None:
    page = Balance(nasty)
    for tag, attributes in page.tags:
        assert not set(attributes) & {"src", "srcset", "action", "data", "poster", "style", "xmlns"}
        assert attributes.get("href", "#").startswith("#"), tag
    style = "".join(page.seen["style"])
    assert not re.search(r"url\(|@import|//", style)
    assert "prefers-color-scheme:dark" in style
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links == {f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"}
    assert "#labels" in links


def test_a_long_pair_is_folded_and_a_short_one_is_not() -> None:
    long = judge([("word " * 400, ["word " * 399 + "other"])], 1, 1, 0).html("t")
    assert "<details><summary>the whole pair, 2,005 characters" in long
    assert "<details>" not in judge([("a good film", ["a bad film"])], 1, 1, 0).html("t")
    endless = judge([("word " * 20_000, [""])], 1, 1, 0).html("t")
    assert len(endless) < 150_000  # four times at most 20,000 characters, and the page


def test_differences_are_marked() -> None:
    page = judge([("a good film", ["a bad film"])], 1, 1, 0).html("t")
    assert "<p dir='auto'>a <del>good</del> <ins>bad</ins> film</p>" in page
    assert "text 1, copy 1 · overlap 0.50 · edit distance 0.33 · length × 0.91" in page


def test_histograms_say_what_each_bar_is() -> None:
    pairs = [("a b", ["a c"])] * 3 + [("ab", ["a" * 7])]
    page = judge(pairs, 4, 1, 0).html("t")
    assert "<title>0.30 – 0.35, pairs: 3</title>" in page  # overlap 1/3
    assert "<title>1.95 and more, pairs: 1</title>" in page
    bars = [attributes for tag, attributes in Balance(page).tags if tag == "rect" and attributes["height"] == "92.0"]
    assert len(bars) == 3  # the highest bar of each is as high as the picture


def test_labels_are_shown_only_with_a_classifier(nasty: str) -> None:
    assert "id='labels'" in nasty
    assert "<td>12</td>" not in judge([("a", ["b"])], 1, 1, 0).html("t")
    assert "id='labels'" not in judge([("a", ["b"])], 1, 1, 0).html("t")
    assert "gives 50.0 % of 24 copies another label" in nasty
    assert "&lt;b&gt;neg&lt;/b&gt; 1.00 → pos &amp; co 1.00" in nasty
