import json
import re
from html.parser import HTMLParser

import pytest

from uda.reporting.charts import MAX_LINES
from uda.reporting.page import page

HOSTILE = '<script>alert("1")</script>\'&|<img src=x onerror=alert(1)>'
VOID = {"meta", "br", "wbr"}


class Page(HTMLParser):
    """Follows the tags, and gathers the words that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


@pytest.fixture
def built(make_run, summarised):
    for seed in (0, 1):
        make_run(f"s{seed}", "objective=supervised", seed=seed, accuracy=0.7 + seed / 10)
        make_run(f"u{seed}", "objective=uda", seed=seed, accuracy=0.8)
    make_run("more", "objective=uda", "data.num_labeled=100", accuracy=0.9)
    folder = make_run("stopped <i>", "objective=uda", seed=2, accuracy=None)
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace("cleaning: html", f"cleaning: {json.dumps(HOSTILE)}")
    )
    failed = make_run("failed", "objective=uda", seed=3, accuracy=None)
    (failed / "failed.json").write_text('{"type": "E", "error": "<img src=http://example.org/a.png> \\u001b[31m"}')
    return page(summarised())


def test_what_files_say_is_text(built) -> None:
    found = Page(built)
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in found.tags}
    assert "E: <img src=http://example.org/a.png> �[31m" in found.text
    assert "stopped <i>" in found.text
    assert f"data.cleaning={HOSTILE}"[-20:] in found.text
    assert "objective.<wbr>temperature" in built
    assert "objective=<wbr>uda</span> <span class='part'>data.<wbr>num_<wbr>labeled=<wbr>100</span>" in built
    assert "\x1b" not in built


def test_nothing_is_loaded_from_elsewhere(built) -> None:
    found = Page(built)
    for _, attributes in found.tags:
        assert not set(attributes) & {"src", "srcset", "href", "action", "data", "style", "onclick", "xmlns"}
    style = re.search("<style>(.*)</style>", built, re.S)[1]
    assert not re.search(r"url\(|@import|//", style)
    assert "prefers-color-scheme:dark" in style
    script = re.search("<script>(.*)</script>", built, re.S)[1]
    assert not re.search(r"fetch|import|http|innerHTML|eval", script)
    assert len(built) < 40_000


def test_the_table_sorts_by_numbers_and_by_keyboard(built) -> None:
    found = Page(built)
    assert [tag for tag, _ in found.tags].count("button") == 11  # a heading each, which the tab key reaches
    values = [attributes["data-value"] for tag, attributes in found.tags if tag == "td" and "data-value" in attributes]
    assert values[:10] == ["1", "0.9", "", "", "", "", "", "6.0", "0", "0"]
    assert {"tabindex": "0", "role": "region"}.items() <= next(
        attributes for tag, attributes in found.tags if attributes.get("class") == "scroll"
    ).items()


def test_curves_labels_failures_and_settings_are_there(built) -> None:
    found = Page(built)
    assert "accuracy % on test rows over steps: mean ± sd" in found.text
    assert "error % on test rows over labels: mean, 95 % (t)" in found.text
    assert "Failed: 1" in found.text
    assert "Unfinished: 1" in found.text
    assert "Settings that differ: " in found.text
    assert "objective.temperature" in found.text
    pictures = [attributes for tag, attributes in found.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(pictures) == 2


def test_of_many_groups_some_are_drawn_the_baseline_among_them(make_run, summarised) -> None:
    for number in range(10):
        make_run(f"r{number}", "objective=uda", f"objective.temperature=1.{number}", accuracy=0.5 + number / 50)
    make_run("s", "objective=supervised", accuracy=0.1)
    text = Page(page(summarised())).text
    legend = text[text.index("mean ± sd (8 of 11, the best and the baseline)") :].split("Settings that differ")[0]
    assert MAX_LINES == 8
    assert "objective=supervised" in legend
    assert "objective.temperature=1.2" not in legend
    assert "objective.temperature=1.3" in legend


def test_a_page_without_scores_lists_the_runs(make_run, summarised, tmp_path) -> None:
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/failed.json").write_text('{"error": "no room"}')
    found = Page(page(summarised()))
    assert "1 run (1 failed) in 0 groups." in found.text
    assert "no room" in found.text
    assert not {"table", "svg"} & {tag for tag, _ in found.tags}
