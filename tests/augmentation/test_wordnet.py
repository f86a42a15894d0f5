import shutil
from pathlib import Path

import pytest

from uda.augmentation.wordnet import _parts, content_hash, find_wordnet, synonyms
from uda.errors import UserError

DEBIAN = Path("/usr/share/wordnet")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("film", ("motion picture", "movie")),
        ("motion picture", ("film", "movie")),
        ("plot", ("secret plan",)),  # of two synsets; the second one has the word itself alone
        ("films", ("motion picture", "movie")),  # by the rule for nouns in -s
        ("men", ("adult male",)),  # an exception
        ("went", ("move", "travel")),
        ("liked", ("enjoy",)),
        ("enjoying", ("like",)),
        ("larger", ("big",)),
        ("bigger", ()),  # such doubled consonants are exceptions, and the file has none
        ("fine", ("good",)),  # the file has "fine(p)"
        ("a", ()),
        ("zebra", ()),
        ("été", ()),
    ],
)
def test_synonyms_by_hand(wordnet: Path, word: str, expected: tuple[str, ...]) -> None:
    assert synonyms(wordnet, word) == expected


def test_a_folder_that_lacks_files(tmp_path: Path, wordnet: Path) -> None:
    folder = shutil.copytree(wordnet, tmp_path / "wordnet")
    assert find_wordnet(str(folder)) == folder
    (folder / "data.adv").unlink()
    with pytest.raises(UserError) as error:
        find_wordnet(str(folder))
    assert str(error.value) == (
        "augment.wordnet: expected a folder with WordNet's files (index.noun, data.noun, …), found none at "
        f"{folder}. Install Debian's package wordnet-base (apt-get install wordnet-base), or set augment.wordnet to "
        "such a folder."
    )


def test_nltks_folder_is_found(tmp_path: Path, wordnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uda.augmentation.wordnet._DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    folder = shutil.copytree(wordnet, tmp_path / "corpora" / "wordnet")
    assert find_wordnet(None) == folder


def test_other_files_have_another_hash(tmp_path: Path, wordnet: Path) -> None:
    folder = shutil.copytree(wordnet, tmp_path / "wordnet")
    other = shutil.copytree(wordnet, tmp_path / "other")
    (other / "adv.exc").write_text("worse badly\n")
    assert content_hash(folder) == content_hash(wordnet) != content_hash(other)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs WordNet: apt-get install wordnet-base")
def test_debians_wordnet() -> None:
    assert "motion picture" in synonyms(DEBIAN, "movies")
    assert "awful" in synonyms(DEBIAN, "terrible")
    assert {"purchase"} <= set(synonyms(DEBIAN, "bought"))
    assert synonyms(DEBIAN, "zyzzyvas12") == ()
    # The first and the last lines of an index are found too.
    for part in ("noun", "verb", "adj", "adv"):
        lines = [line for line in (DEBIAN / f"index.{part}").read_text().splitlines() if not line.startswith(" ")]
        for line in (lines[0], lines[-1]):
            assert _parts(DEBIAN)[part].synsets(line.split()[0]), line
