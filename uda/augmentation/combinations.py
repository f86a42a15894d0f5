"""Methods made of methods: one of several, drawn for each text, or one after the other."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from uda.augmentation.base import Augmenter, text_generator
from uda.augmentation.on_disk import map_from_disk
from uda.augmentation.word_arrays import in_chunks
from uda.errors import UserError


class _Combination(Augmenter):
    """Several methods, each under the name that it has in `augment.methods`.

    Each one's `prepare` gets the original texts, which lie in a temporary file where several methods look at them.
    """

    def __init__(self, methods: Mapping[str, Augmenter]) -> None:
        self.methods = dict(methods)
        members = list(self.methods.values())
        self.single_texts_only = any(member.single_texts_only for member in members)
        self.unchanged = all(member.unchanged for member in members)
        self.uses_corpus = any(member.uses_corpus for member in members)
        self.by_key = any(member.by_key for member in members)
        self.own_workers = any(member.own_workers for member in members)
        self.max_texts = min((member.max_texts for member in members if member.max_texts), default=None)

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        prepared = [member for member in self.methods.values() if type(member).prepare is not Augmenter.prepare]
        if len(prepared) > 1:
            stored_texts, stored_keys = map_from_disk(in_chunks(texts)), map_from_disk(in_chunks(keys))
            for member in prepared:
                member.prepare(_read(stored_texts), _read(stored_keys), num_source_rows)
        elif prepared:
            prepared[0].prepare(texts, keys, num_source_rows)

    def close(self) -> None:
        for member in self.methods.values():
            member.close()

    def fingerprint(self) -> str:
        members = [f"{name} {member.fingerprint()}" for name, member in self.methods.items()]
        return "\n".join([super().fingerprint(), *members])


class Mix(_Combination):
    """For each copy of each text one of the methods, drawn with a probability in proportion to its weight.

    `methods` and `weights` go by the same names; one of weight 0 is left out.
    """

    def __init__(self, methods: Mapping[str, Augmenter], weights: Mapping[str, float], seed: int) -> None:
        if set(methods) != set(weights):
            raise UserError(
                f"augment.weights: expected a weight for each of augment.methods ({', '.join(methods)}), found "
                f"{', '.join(weights) or 'none'}. Give each method one; 0 leaves it out."
            )
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise UserError(
                    f"augment.weights.{name}: expected a number of at least 0, found {weight!r}. Set it to 1."
                )
        if not any(weights.values()):
            raise UserError("augment.weights: expected a weight above 0, found none. Set one of them to 1.")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise UserError(f"augment.seed: expected a whole number, found {seed!r}. Set augment.seed=0.")
        super().__init__({name: method for name, method in methods.items() if weights[name] > 0})
        self.seed = seed
        sums = np.cumsum([weights[name] for name in self.methods])
        self._cumulative = sums / sums[-1]

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        drawn = np.array([self._draw(text, copy) for text in texts], dtype=int)
        results = list(texts)
        for number, member in enumerate(self.methods.values()):
            rows = np.flatnonzero(drawn == number).tolist()
            if not rows:
                continue
            made = member.augment([texts[row] for row in rows], [keys[row] for row in rows], copy)
            for row, text in zip(rows, made, strict=True):
                results[row] = text
        return results

    def _draw(self, text: str, copy: int) -> int:
        # Other numbers than the members' own, and those of a mix within: the choice tells nothing about theirs.
        salted = "\0".join(["mix", *self.methods, text])
        return int(self._cumulative.searchsorted(text_generator(self.seed, copy, salted).random(), side="right"))


class Chain(_Combination):
    """The methods one after the other, in the order of their names in `order`: each gets what the one before made."""

    def __init__(self, methods: Mapping[str, Augmenter], order: Sequence[str]) -> None:
        if not order or sorted(order) != sorted(methods):
            raise UserError(
                f"augment.order: expected each of augment.methods ({', '.join(methods)}) once, found "
                f"{', '.join(order) or 'none'}. List their names, the first to work first."
            )
        super().__init__({name: methods[name] for name in order})

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        results = list(texts)
        for member in self.methods.values():
            results = member.augment(results, keys, copy)
        return results


def _read(stored: pa.ChunkedArray) -> Iterator[str]:
    for chunk in stored.chunks:
        yield from chunk.to_pylist()
