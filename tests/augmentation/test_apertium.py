import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from uda.augmentation import apertium
from uda.augmentation.apertium import Apertium
from uda.augmentation.pipelines import Pipelines
from uda.errors import UserError

YAML = Path(__file__).parents[2] / "configs" / "augment" / "apertium.yaml"
MODES = Path("/usr/share/apertium/modes")


def installed(pivot: str) -> Any:
    there = shutil.which("apertium") and (MODES / f"eng-{pivot}.mode").is_file()
    return pytest.mark.skipif(not there, reason=f"apt-get install apertium apertium-eng-{pivot}")


def settings(**changes: Any) -> dict[str, Any]:
    values = yaml.safe_load(YAML.read_text())
    del values["_target_"]
    return {"num_workers": None, **values, **changes}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modes whose translators only pass texts on, and a program named apertium."""
    (tmp_path / "apertium").write_text("#!/bin/sh\n")
    # Like the real ones it takes -z first, and what the mode file has for $1; its dictionary is a sed script.
    (tmp_path / "translate").write_text('#!/bin/sh\n[ "$1 $2" = "-z -n" ] || exit 1\nexec sed -u -z -f "$3"\n')
    for name in ("apertium", "translate"):
        (tmp_path / name).chmod(0o755)
    for pivot in ("spa", "cat"):
        (tmp_path / f"{pivot}.sed").write_text(f"s/Hola/{pivot}/\n")
        (tmp_path / f"eng-{pivot}.mode").write_text(f"cat -u | translate $1 '{tmp_path}/{pivot}.sed' $2\n")
        (tmp_path / f"{pivot}-eng.mode").write_text(f"translate $1 '{tmp_path}/{pivot}.sed'")
    (tmp_path / "cat").write_text("#!/bin/sh\nexec /bin/cat\n")
    (tmp_path / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def fake_method(fake: Path, **changes: Any) -> Apertium:
    return Apertium(**settings(modes=str(fake), num_workers=2, seconds_per_text=5, **changes))


def test_the_copies_of_a_text_take_the_pivots_in_turn(fake: Path) -> None:
    method = fake_method(fake, pivot=["spa", "cat"])
    texts = [f"Hola, text number {number}" for number in range(100)]
    first, second, third = (method.augment(texts, [], copy) for copy in range(3))
    method.close()
    assert first == third
    for text, one, two in zip(texts, first, second, strict=True):
        assert {one, two} == {text.replace("Hola", "spa"), text.replace("Hola", "cat")}
    assert 25 < sum("spa" in one for one in first) < 75


def test_accents_that_stand_apart_are_joined_and_copies_are_as_many_as_pivots(fake: Path) -> None:
    method = fake_method(fake, pivot=["spa", "cat"])
    assert method.augment(["Hola, cafe\u0301 and nai\u0308ve"], [], 0)[0][3:] == ", caf\u00e9 and na\u00efve"
    assert method.max_copies == 2
    method.close()


def test_marks_go_unless_the_text_has_them(monkeypatch: pytest.MonkeyPatch, fake: Path) -> None:
    monkeypatch.setattr(Pipelines, "translate", lambda self, texts: [f"@{text}# and *more" for text in texts])
    method = fake_method(fake)
    assert method.augment(
        ["fifteen letters and more", "number #1 of ten in all", "a 5* film, #1 at all of a@b"], [], 0
    ) == [
        "fifteen letters and more and more",
        "number #1 of ten in all# and more",
        "@a 5* film, #1 at all of a@b# and *more",
    ]


def test_the_original_stays_without_a_translation_or_with_one_of_another_length(
    monkeypatch: pytest.MonkeyPatch, fake: Path
) -> None:
    asked = []

    def translate(self: Pipelines, texts: list[str]) -> list[str | None]:
        asked.extend(texts)
        return [{"none of this": None, "too long here": "x" * 20, "as it should be": "x" * 20}[text] for text in texts]

    monkeypatch.setattr(Pipelines, "translate", translate)
    texts = ["none of this", "too long here", "as it should be", "short", "", " "]
    assert fake_method(fake).augment(texts, [], 0) == ["none of this", "too long here", "x" * 20, "short", "", " "]
    assert asked == texts[:3]


def test_another_dictionary_has_another_fingerprint(fake: Path) -> None:
    one = fake_method(fake).fingerprint()
    assert one == fake_method(fake).fingerprint()
    assert one != fake_method(fake, pivot="cat").fingerprint()
    (fake / "spa.sed").write_text("s/Hola/something else/\n")
    assert one != fake_method(fake).fingerprint()


def test_one_pipeline_for_each_core(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apertium.os, "sched_getaffinity", lambda pid: {0, 3, 5})
    assert Apertium(**settings(modes=str(fake)))._pipelines["spa"]._size == 3
    assert fake_method(fake)._pipelines["spa"]._size == 2


def test_what_is_not_installed(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        fake_method(fake, pivot="fra")
    assert str(caught.value) == (
        f"augment.pivot: expected a language that an installed pair translates English to and from (in {fake}: cat, "
        "spa), found 'fra'. Choose one, or install its pair: apt-get install apertium-eng-fra."
    )
    (fake / "translate").unlink()
    with pytest.raises(UserError, match="expected the program translate, which the pair of eng and spa runs"):
        fake_method(fake)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError) as caught:
        fake_method(fake)
    assert str(caught.value) == (
        "augment: expected the program apertium, found none on the PATH. Install it and the pair: apt-get install "
        "apertium apertium-eng-spa."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds_per_text": 0}, "augment.seconds_per_text: expected a number above 0, found 0"),
        ({"num_workers": 0}, "augment.num_workers: expected a whole number of at least 1, found 0"),
        ({"seed": -1}, "augment.seed: expected a whole number of at least 0, found -1"),
        ({"pivot": ["spa", "spa"]}, "augment.pivot: expected a language or a list of different ones"),
    ],
)
def test_wrong_settings(fake: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Apertium(**settings(modes=str(fake)) | changes)


@installed("spa")
def test_a_real_translation() -> None:
    method = Apertium(**settings(num_workers=1))
    texts = [
        "This is a great movie. I loved it.",
        "The music was very good,\nand the story was not Frobnicable at all!",
    ]
    first = method.augment(texts, [], 0)
    assert first == method.augment(texts[::-1], [], 3)[::-1]
    method.close()
    assert all(new != text for new, text in zip(first, texts, strict=True))
    assert "film" in first[0]
    assert "music" in first[1]
    assert "Frobnicable" in first[1]  # unknown words stay, unmarked
    assert "\n" in first[1]


@pytest.mark.slow
@pytest.mark.parametrize("pivot", [pytest.param(name, marks=installed(name)) for name in ("spa", "cat")])
def test_nasty_texts_come_back_one_for_one(pivot: str) -> None:
    method = Apertium(**settings(pivot=pivot))
    sentence = "This film was good, and the actors were funny."
    texts = [
        f"{sentence}\n\n{sentence}\r\n\t{sentence}",
        f"{sentence}\0{sentence}",
        f"<p class='x'>{sentence}</p> [see {{here}}] ^this$ a/b \\ c@d.com <br /> [5] [] *bold* #1",
        f"{sentence} \U0001f600\U0001f469\u200d\U0001f680 {sentence} \ufeff\u2028 ünïcöde ſ ﬁ",
        " ".join([sentence] * 2200),  # 103,000 characters
        "x" * 100_000,
        "".join(chr(code) for code in range(1, 0x250)),
        "\\" * 50,
        "~" * 50 + "[" * 50 + "\xad" * 50,
        f"   {sentence}   ",
        sentence,
    ]
    results = method.augment(texts, [], 0)
    method.close()
    plain = results[-1]
    assert plain != sentence
    for text, result in zip(texts, results, strict=True):
        assert abs(len(result) - len(text)) <= len(text) / 2
        expected = text.count(sentence)
        assert len(re.findall("film", result)) == expected


@installed("spa")
@pytest.mark.slow
def test_a_result_does_not_depend_on_the_texts_before_it() -> None:
    # Words with readings that the tagger was not trained on make it treat later unknown words in another way.
    # "Rob" is a name or a verb, for which the tagger treats unknown words, such as the last one, in another way.
    texts = [
        "The film was fantastic, and Rob was in it.",
        "The two most fantastic slayers arrive only 4 minutes before the end.",
        "There is a tray of plastic bananas on stalks, and the quotable dialog like MOONSTRUCK.",
        "I liked the DVD of the Zorgish near.",
    ] * 2
    method = Apertium(**settings(num_workers=1))
    forwards = method.augment(texts, [], 0)
    assert method.augment(texts[::-1], [], 0)[::-1] == forwards
    method.close()
    alone = Apertium(**settings(num_workers=1))
    assert alone.augment(texts[-1:], [], 0) == forwards[-1:]
    alone.close()


@installed("spa")
@pytest.mark.slow
def test_any_text_comes_back() -> None:
    method = Apertium(**settings(seconds_per_text=20))

    @hypothesis_settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(min_size=10, max_size=60), min_size=30, max_size=60))
    def check(texts: list[str]) -> None:
        results = method.augment(texts, [], 0)
        assert len(results) == len(texts)
        assert method.augment(texts[-1:], [], 0) == results[-1:]

    check()
    method.close()
