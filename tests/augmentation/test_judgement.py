import json
import math

import numpy as np
import pytest

from uda.augmentation import judgement as module
from uda.augmentation.agreement import label_agreement
from uda.augmentation.judgement import Judgement, judge
from uda.augmentation.measures import NUM_WORST, Pair, Tally, length_ratio, word_distance, word_overlap

# Words of the original: the film was good (4). Copies: the same; "the film was very bad": good is exchanged and very
# inserted, 2 of 5 words; 3 common ones of the 6 in either.
TEXT, COPY = "the film was good", "the film was very bad"


def rows(measure) -> dict[int, int]:
    """The bins that are not empty."""
    return {number: count for number, count in enumerate(measure.counts) if count}


def lines(judgement: Judgement) -> list[str]:
    return judgement.table().splitlines()


def line(judgement: Judgement, name: str) -> str:
    return next(each for each in lines(judgement) if each.startswith(name))


def test_measures_of_one_pair() -> None:
    assert word_overlap({"the", "film", "was", "good"}, {"the", "film", "was", "very", "bad"}) == 3 / 6
    assert word_distance(TEXT.split(), COPY.split()) == 2 / 5
    assert word_distance(COPY.split(), TEXT.split()) == 2 / 5
    assert length_ratio("abcd", "ab") == 0.5


@pytest.mark.parametrize(
    ("original", "augmented", "ratio", "overlap", "distance"),
    [("", "", 1.0, 1.0, 0.0), ("", "a b", math.inf, 0.0, 1.0), ("a b", "", 0.0, 0.0, 1.0), ("a", "a", 1.0, 1.0, 0.0)],
)
def test_empty_and_equal_texts(original: str, augmented: str, ratio: float, overlap: float, distance: float) -> None:
    assert length_ratio(original, augmented) == ratio
    assert word_overlap(set(original.split()), set(augmented.split())) == overlap
    assert word_distance(original.split(), augmented.split()) == distance
    judgement = judge([(original, [augmented])], 1, 1, 0)
    assert judgement.unchanged == float(original == augmented)
    assert judgement.overlap.mean == overlap
    assert judgement.distance.mean == distance
    assert judgement.length_ratio.mean == (None if ratio == math.inf else ratio)
    assert judgement.length_ratio.unbounded == int(ratio == math.inf)
    assert "empty originals" in judgement.table() or ratio < math.inf
    assert judgement.html("t")


def test_shares_means_histograms_and_vocabulary() -> None:
    # The second text: "Oh, no." has 4 words; its first copy has the same in other case, its second one 3 of these.
    pairs = [(TEXT, [TEXT, COPY]), ("Oh, no.", ["oh ,  NO.", "oh, no"])]
    found = judge(pairs, 2, 2, 0)
    assert (found.num_texts, found.num_copies, found.num_word_texts) == (2, 2, 2)
    assert found.unchanged == 1 / 4
    assert found.same_words == 2 / 4
    assert found.distinct == 4 / 4
    assert found.length_ratio.mean == pytest.approx((1 + 21 / 17 + 9 / 7 + 6 / 7) / 4)
    assert rows(found.length_ratio) == {17: 1, 20: 1, 24: 1, 25: 1}  # 0.857, 1, 1.235, 1.286 in bins of 0.05
    assert found.overlap.mean == pytest.approx((1 + 3 / 6 + 1 + 3 / 4) / 4)
    assert rows(found.overlap) == {10: 1, 15: 1, 19: 2}
    assert found.distance.mean == pytest.approx((0 + 2 / 5 + 0 + 1 / 4) / 4)
    assert rows(found.distance) == {0: 2, 5: 1, 8: 1}
    assert (found.vocabulary, found.new_words) == (8, 2)  # the film was good oh , no . – and very, bad
    assert found.vocabulary_growth == 10 / 8


def test_copies_that_are_equal_are_not_distinct() -> None:
    assert judge([(TEXT, ["a", "a", "b"]), (TEXT, ["c", "c", "c"])], 2, 3, 0).distinct == 3 / 6


def test_a_word_is_new_only_if_no_original_has_it() -> None:
    found = judge([("a", ["b"]), ("b", ["c"])], 2, 1, 0)
    assert (found.vocabulary, found.new_words) == (2, 1)


def test_length_beyond_the_scale_is_in_the_last_bin() -> None:
    found = judge([("ab", ["a" * 7])], 1, 1, 0).length_ratio
    assert found.mean == 3.5
    assert rows(found) == {39: 1}


def test_no_pairs() -> None:
    found = judge([], 0, 1, 0)
    assert (found.unchanged, found.distinct, found.overlap.mean, found.vocabulary_growth) == (None, None, None, None)
    assert found.samples == ()
    assert line(found, "unchanged copies").split()[2] == "–"
    assert "No copy is changed" in found.html("nothing")
    assert json.loads(json.dumps(found.as_json()))["unchanged"] is None


def test_the_worst_pairs_are_kept_the_first_ones_of_equals() -> None:
    original = "a b c d e f g h i j"

    def changed(number: int) -> str:
        return " ".join(original.split()[: 10 - number])

    # 30 texts lose 1, 2, … 9, 0 words, in turn.
    pairs = [(original, [changed((row + 1) % 10)]) for row in range(30)]
    found = judge(pairs, 30, 1, 0)
    lost = [9, 9, 9, 8, 8, 8, 7, 7, 7, 6]
    for measure in (found.overlap, found.distance, found.length_ratio):
        assert [10 - len(pair.augmented.split()) for pair in measure.worst] == lost
        assert [pair.row for pair in measure.worst] == [8, 18, 28, 7, 17, 27, 6, 16, 26, 5]
    assert len(lost) == NUM_WORST


def test_half_is_as_extreme_as_double_and_an_empty_copy_more_than_any() -> None:
    pairs = [
        ("abcd", ["a" * 6]),
        ("abcd", ["ab"]),
        ("abcd", ["a" * 8]),
        ("abcd", [""]),
        ("", ["a"]),
        ("abcd", ["abcd"]),
    ]
    assert [pair.row for pair in judge(pairs, 6, 1, 0).length_ratio.worst] == [3, 4, 1, 2, 0]


def test_values_on_an_edge_belong_above_it() -> None:
    tally = Tally(1, float)
    for number in range(21):
        tally.add(number / 20, Pair(number, 0, "a", "b"))
    assert tally.measure().counts == (*[1] * 19, 2)


def test_samples_are_drawn_by_the_seed() -> None:
    pairs = [(f"text {row}", [f"one {row}", f"two {row}"]) for row in range(200)]
    first, again, other = (judge(iter(pairs), 200, 2, seed).samples for seed in (0, 0, 1))
    assert first == again != other
    assert len({pair.row for pair in first}) == 30
    assert {pair.copy for pair in first} == {0, 1}
    assert all(pair.augmented == pairs[pair.row][1][pair.copy] for pair in first)
    assert [pair.row for pair in judge(pairs[:5], 5, 2, 0).samples] == [0, 1, 2, 3, 4]


def test_words_of_many_texts_are_those_of_a_drawn_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORD_TEXTS", 10)
    pairs = [(f"w{row}", ["", ""]) for row in range(1000)]
    found = judge(iter(pairs), 1000, 2, 0)
    assert (found.num_texts, found.num_word_texts, found.vocabulary) == (1000, 10, 10)
    assert sum(found.overlap.counts) == 20
    assert sum(found.length_ratio.counts) == 2000
    assert found.unchanged == 0
    assert "1,000 texts, 2 copies each; words compared in 10 drawn texts" in found.table()
    assert "words compared in 10 drawn texts" in found.html("t")
    assert judge(iter(pairs), 1000, 2, 0) == found
    assert judge(iter(pairs), 1000, 2, 1).overlap.worst != found.overlap.worst


# Three classes. What the classifier says is written in the text: its number is the class, of probability 0.8.
NAMES = ["bad", "so so", "good"]


def classify(texts: list[str]) -> np.ndarray:
    probs = np.full((len(texts), 3), 0.1)
    for row, text in enumerate(texts):
        probs[row, int(text[0]) if text else 0] = 0.8 if text else math.nan
    return probs


def test_agreement_by_class() -> None:
    pairs = [("0a", ["0b", "1"]), ("0c", ["0d", "2"]), ("1", ["1", "0"]), ("2", ["2", "2"]), ("2", ["", "1"])]
    found = label_agreement(iter(pairs), 5, 2, 0, classify, NAMES)
    assert found.counts.tolist() == [[2, 1, 1], [1, 1, 0], [0, 1, 2]]
    assert (found.num_pairs, found.blank) == (9, 1)
    assert found.disagreement == 4 / 9
    assert list(found.by_class()) == [("bad", 4, 2 / 4), ("so so", 2, 1 / 2), ("good", 3, 1 / 3)]
    # 0.8, 0.1, 0.1 against 0.1, 0.8, 0.1: (0.7 + 0.7) / 2
    assert found.change.mean == pytest.approx(4 * 0.7 / 9)
    assert sum(found.change.counts) == 9
    assert [(pair.row, pair.copy) for pair in found.change.worst[:2]] == [(0, 1), (1, 1)]
    assert found.answers[:2] == ("bad 0.80 → so so 0.80", "bad 0.80 → good 0.80")
    table = judge(pairs, 5, 2, 0).with_agreement(found).table()
    assert "classifier disagrees       44.4 %   of 9 copies" in table
    assert "  good                     33.3 %   of 3 originals' copies" in table
    assert "  copies left out               1   blank" in table
    numbers = judge(pairs, 5, 2, 0).with_agreement(found).as_json()["label_agreement"]
    assert numbers["by_class"]["good"] == {"pairs": 3, "disagreement": 1 / 3}
    assert numbers["disagreement"] == 4 / 9


def test_agreement_of_no_pairs_and_of_a_class_without_any() -> None:
    assert label_agreement([], 0, 1, 0, classify, NAMES).disagreement is None
    found = label_agreement([("0", ["0"])], 1, 1, 0, classify, NAMES)
    assert list(found.by_class())[1] == ("so so", 0, None)
    assert judge([("0", ["0"])], 1, 1, 0).with_agreement(found).html("t")


def test_agreement_labels_a_drawn_part_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uda.augmentation.agreement.MAX_PAIRS", 1000)
    sizes = []

    def counting(texts: list[str]) -> np.ndarray:
        sizes.append(len(texts))
        return classify(texts)

    pairs = [(f"0 {row}", [f"0 {row}", "1"]) for row in range(2000)]
    found = label_agreement(iter(pairs), 2000, 2, 0, counting, NAMES)
    assert found.num_pairs == 1000
    assert found.disagreement == 0.5
    assert sizes == [256, 512, 244, 488]
    assert "of 1,000 drawn copies" in judge(pairs, 2000, 2, 0).with_agreement(found).table()
    drawn = [pair.row for pair in found.change.worst]
    assert drawn == [pair.row for pair in label_agreement(iter(pairs), 2000, 2, 0, classify, NAMES).change.worst]
    assert drawn != [pair.row for pair in label_agreement(iter(pairs), 2000, 2, 1, classify, NAMES).change.worst]


def test_the_table_fits_a_terminal() -> None:
    names = ["a label of very many words that nobody can read", "b\nc"]
    pairs = [("0 " * 100, ["1 " * 100, ""])] * 50 + [("", ["1", "0"])]
    agreement = label_agreement(pairs, 51, 2, 0, lambda texts: classify(texts)[:, :2], names)
    found = judge(pairs, 51, 2, 0).with_agreement(agreement)
    assert max(map(len, lines(found))) <= 80
    assert all(each.isprintable() for each in lines(found))
    assert "  b c " in found.table()
    assert len({each.index(" ", 27) for each in lines(found)[2:] if "%" not in each[:33]}) == 1  # numbers end in line
    assert line(found, "length ratio").endswith("2+")
    assert "█" in line(found, "word overlap")


def test_distinct_copies_are_told_only_where_there_are_several() -> None:
    assert "distinct copies" not in judge([("a", ["b"])], 1, 1, 0).table()
    assert "distinct copies" in judge([("a", ["b", "c"])], 1, 2, 0).table()
    assert "distinct" not in judge([("a", ["b"])], 1, 1, 0).html("t")
    assert "distinct" in judge([("a", ["b", "c"])], 1, 2, 0).html("t")


def test_json_has_numbers_and_no_texts() -> None:
    numbers = judge([(TEXT, [COPY])], 1, 1, 0).as_json()
    text = json.dumps(numbers, allow_nan=False)
    assert "film" not in text
    assert numbers["word_overlap"]["mean"] == 0.5
    assert numbers["word_overlap"]["histogram"]["edges"][10] == 0.5
    assert numbers["word_overlap"]["histogram"]["counts"][10] == 1
    assert len(numbers["length_ratio"]["histogram"]["edges"]) == 41
    assert numbers["vocabulary_growth"] == 6 / 4
    assert "label_agreement" not in numbers
