import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from uda.augmentation.base import Augmenter
from uda.augmentation.combinations import Chain, Mix
from uda.augmentation.none import NoAugmentation
from uda.augmentation.uniform import UniformReplacement
from uda.errors import UserError

FLAGS = ["single_texts_only", "unchanged", "uses_corpus", "by_key", "own_workers"]


class Ends(Augmenter):
    """Hangs a word, the copy and the key on a text; says what it was given."""

    def __init__(self, word: str, **flags: bool) -> None:
        self.word = word
        self.closed = False
        self.batches: list[list[str]] = []
        vars(self).update(flags)

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        self.batches.append(list(texts))
        return [f"{text} {self.word}{copy}{key}" for text, key in zip(texts, keys, strict=True)]

    def close(self) -> None:
        self.closed = True

    def fingerprint(self) -> str:
        return self.word


class Learns(Ends):
    """Keeps what `prepare` gave it."""

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        self.prepared = (list(texts), list(keys), num_source_rows)


def test_mix_draws_by_weight() -> None:
    mix = Mix({"a": Ends("a"), "b": Ends("b"), "c": Ends("c")}, {"a": 1, "b": 3, "c": 0}, seed=0)
    texts = [f"text {number}" for number in range(4000)]
    keys = [str(number) for number in range(4000)]
    results = mix.augment(texts, keys, 2)
    assert all(result[:-1].startswith(f"{text} ") for result, text in zip(results, texts, strict=True))
    assert all(result.endswith(f"2{key}") for result, key in zip(results, keys, strict=True))
    drawn = Counter(result.split()[2][0] for result in results)
    # 4000 · 3/4 = 3000; standard deviation √(4000 · 3/16) = 27.4.
    assert set(drawn) == {"a", "b"}
    assert abs(drawn["b"] - 3000) <= 110
    # Every text once, and a whole batch at a time.
    assert sorted(text for member in mix.methods.values() for batch in member.batches for text in batch) == sorted(
        texts
    )
    assert [len(member.batches) for member in mix.methods.values()] == [1, 1]


def test_mix_depends_on_text_seed_and_copy_alone() -> None:
    def mix(seed: int) -> Mix:
        return Mix({"a": Ends("a"), "b": Ends("b")}, {"a": 1, "b": 1}, seed)

    texts = [f"text {number}" for number in range(100)]
    together = mix(0).augment(texts, ["x"] * 100, 0)
    assert [mix(0).augment([text], ["x"], 0)[0] for text in reversed(texts)] == together[::-1]
    assert mix(1).augment(texts, ["x"] * 100, 0) != together
    choices = [result[-3] for result in together]
    assert [result[-3] for result in mix(0).augment(texts, ["x"] * 100, 1)] != choices


def test_a_choice_tells_nothing_about_the_members_own_numbers() -> None:
    # The uniform replacement takes its numbers from the same seed, copy and text; a mix inside a mix too.
    words = [f"w{number}" for number in range(50)]
    uniform = UniformReplacement(probability=0.5, lowercase=True, seed=0)
    inner = Mix({"a": Ends("a"), "b": Ends("b")}, {"a": 1, "b": 1}, seed=0)
    mix = Mix({"none": inner, "uniform": uniform}, {"none": 1, "uniform": 1}, seed=0)
    texts = [f"first {number}" for number in range(4000)]
    mix.prepare(words, ["0"] * 50, 50)
    results = mix.augment(texts, [""] * 4000, 0)
    replaced = [result for result in results if not result.endswith(("a0", "b0"))]
    kept = sum(result.startswith("first") for result in replaced) / len(replaced)
    assert abs(kept - 0.5) <= 0.05
    inside = [result[-2] for result in results if result.endswith(("a0", "b0"))]
    assert abs(inside.count("a") / len(inside) - 0.5) <= 0.05


def test_chain_gives_each_what_the_one_before_made() -> None:
    methods = {"a": Ends("a"), "b": Ends("b")}
    assert Chain(methods, ["b", "a"]).augment(["x", "y"], ["7", "8"], 3) == ["x b37 a37", "y b38 a38"]


@pytest.mark.parametrize("build", [lambda m: Mix(m, dict.fromkeys(m, 1), 0), lambda m: Chain(m, list(m))])
class TestEveryCombination:
    def test_each_member_is_prepared_with_all_texts(self, build: Any) -> None:
        members = {"a": Learns("a"), "none": NoAugmentation(), "b": Learns("b")}
        texts = [f"té {number}" for number in range(2000)]
        keys = [f"k{number}" for number in range(2000)]

        def once(values: list[str]) -> Iterator[str]:
            yield from values

        combination = build(members)
        combination.prepare(once(texts), once(keys), 5000)
        assert members["a"].prepared == members["b"].prepared == (texts, keys, 5000)
        only = build({"a": Learns("a"), "none": NoAugmentation()})
        only.prepare(once(texts), once(keys), 5000)
        assert only.methods["a"].prepared == (texts, keys, 5000)

    @pytest.mark.parametrize("flag", FLAGS)
    def test_flags_combine(self, build: Any, flag: str) -> None:
        off, on = Ends("a"), Ends("b", **{flag: True})
        combined = build({"a": off, "b": on})
        expected = [name == flag and flag != "unchanged" for name in FLAGS]
        assert [getattr(combined, name) for name in FLAGS] == expected
        assert build({"b": on}).unchanged is (flag == "unchanged")

    def test_close_and_fingerprint_reach_every_member(self, build: Any) -> None:
        members = {"a": Ends("a"), "b": Ends("b")}
        combination = build(members)
        combination.close()
        assert [member.closed for member in members.values()] == [True, True]
        other = build({"a": Ends("a"), "b": Ends("other")})
        assert combination.fingerprint() != other.fingerprint()
        assert combination.fingerprint() == build({"a": Ends("a"), "b": Ends("b")}).fingerprint()

    def test_works_in_another_process(self, build: Any) -> None:
        uniform = {name: UniformReplacement(0.5, True, seed) for name, seed in (("a", 0), ("b", 1))}
        combination = build(uniform)
        combination.prepare(["one two three", "four five"], ["0", "1"], 2)
        again = pickle.loads(pickle.dumps(combination))
        assert again.augment(["one two"], ["0"], 0) == combination.augment(["one two"], ["0"], 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"a": 1},
            "augment.weights: expected a weight for each of augment.methods (a, b), found a. Give each method one; 0 "
            "leaves it out.",
        ),
        ({"a": 1, "b": -1}, "augment.weights.b: expected a number of at least 0, found -1. Set it to 1."),
        ({"a": 1, "b": "x"}, "augment.weights.b: expected a number of at least 0, found 'x'. Set it to 1."),
        ({"a": 0, "b": 0}, "augment.weights: expected a weight above 0, found none. Set one of them to 1."),
    ],
)
def test_wrong_weights(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Mix({"a": Ends("a"), "b": Ends("b")}, weights, 0)
    assert str(error.value) == message


@pytest.mark.parametrize(("order", "found"), [([], "none"), (["a"], "a"), (["a", "b", "b"], "a, b, b"), (["c"], "c")])
def test_wrong_order(order: list[str], found: str) -> None:
    with pytest.raises(UserError) as error:
        Chain({"a": Ends("a"), "b": Ends("b")}, order)
    assert str(error.value) == (
        f"augment.order: expected each of augment.methods (a, b) once, found {found}. List their names, the first to "
        "work first."
    )
