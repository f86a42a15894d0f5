"""Tokens that a masked language model has to find: chosen, hidden, padded into blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uda.data.batches import Tokens, pad_rows
from uda.data.tokens import TokenStore
from uda.errors import UserError

_HIDDEN, _KEPT = 0.8, 0.1  # of the chosen tokens: become the mask token, stay; the others become any token
_MARKS = ("Ġ", "▁")  # of the first token of a word, where later ones have no mark


@dataclass(frozen=True)
class Masker:
    """Chooses a share of a text's tokens and hides them.

    mask_id: the mask token. special: whether each id is a special token, which is never chosen, [V]. ordinary: the ids
    of the others, of which replacements are drawn. continues: whether each id goes on with the word before it, [V],
    where words are chosen whole; None: tokens are chosen one by one.
    """

    share: float
    mask_id: int
    special: np.ndarray
    ordinary: np.ndarray
    continues: np.ndarray | None

    def __call__(self, ids: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A text's ids with chosen ones hidden, and the places of these, ascending.

        Each token, or word, is chosen with the probability `share`; where none is, the one of the lowest draw, so that
        only a text without ordinary tokens has no place. Of the chosen tokens 80 % become the mask token, 10 % a random
        one, 10 % stay. Source: Devlin et al. 2019, "BERT", section 3.1.
        """
        places = np.flatnonzero(~self.special[ids])
        hidden = ids.copy()
        if not len(places):
            return hidden, places
        unit = np.arange(len(places))
        if self.continues is not None:
            begins = ~self.continues[ids[places]] | (np.diff(places, prepend=-2) > 1)
            unit = np.cumsum(begins) - 1
        draws = generator.random(unit[-1] + 1)
        chosen = draws < self.share
        chosen[draws.argmin()] = True
        picked = places[chosen[unit]]
        fate = generator.random(len(picked))
        others = generator.choice(self.ordinary, len(picked))
        hidden[picked] = np.where(fate < _HIDDEN, self.mask_id, np.where(fate < _HIDDEN + _KEPT, ids[picked], others))
        return hidden, picked


def make_masker(tokenizer: Any, share: float, whole_words: bool) -> Masker:
    """The masker for a tokenizer's ids.

    Raises UserError where there is no mask token, or no mark of where words begin or go on.
    """
    if tokenizer.mask_token_id is None:
        raise UserError(
            "model.name_or_path: expected an encoder whose tokenizer has a mask token, which masked-language-model "
            "training hides words behind, found none. Choose one such as BERT, RoBERTa or ModernBERT."
        )
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    special = np.zeros(size, dtype=bool)
    special[list(tokenizer.all_special_ids)] = True
    known = np.zeros(size, dtype=bool)
    known[list(vocabulary.values())] = True
    continues = _continuing(vocabulary, size) if whole_words else None
    return Masker(share, tokenizer.mask_token_id, special, np.flatnonzero(known & ~special), continues)


def _continuing(vocabulary: dict[str, int], size: int) -> np.ndarray:
    """Whether each id goes on with a word: [V]. Punctuation, which some vocabularies leave without a mark, does not."""
    continues = np.zeros(size, dtype=bool)
    if any(token.startswith("##") for token in vocabulary):
        continues[[number for token, number in vocabulary.items() if token.startswith("##")]] = True
        return continues
    mark = next((mark for mark in _MARKS if any(token.startswith(mark) for token in vocabulary)), None)
    if mark is None:
        raise UserError(
            "adapt.whole_words=true: expected a tokenizer that marks where words begin or go on (##, Ġ or ▁), found "
            "no such mark in its vocabulary. Set adapt.whole_words=false."
        )
    later = [
        number
        for token, number in vocabulary.items()
        if not token.startswith(mark) and any(letter.isalnum() for letter in token)
    ]
    continues[later] = True
    return continues


@dataclass(frozen=True)
class MaskedRows:
    """Rows with hidden tokens, padded: the places of these in the N * L ids laid end to end, and what they were, [M]
    each.
    """

    tokens: Tokens
    places: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "MaskedRows":
        return MaskedRows(self.tokens.to(device), self.places.to(device), self.targets.to(device))


def mask_rows(
    picks: Sequence[tuple[TokenStore, int]],
    generators: Sequence[np.random.Generator],
    masker: Masker,
    pad_id: int,
) -> MaskedRows:
    """Rows of token stores as one padded block, each masked by its own generator."""
    rows = [store[row] for store, row in picks]
    masked = [masker(row, generator) for row, generator in zip(rows, generators, strict=True)]
    hidden, chosen = zip(*masked, strict=True)
    types = [found for store, row in picks if (found := store.types_of(row)) is not None]
    tokens = pad_rows(hidden, pad_id, types or None)
    length = tokens.ids.shape[1]
    places = np.concatenate([number * length + places for number, places in enumerate(chosen)])
    targets = np.concatenate([row[places] for row, places in zip(rows, chosen, strict=True)])
    return MaskedRows(tokens, torch.from_numpy(places), torch.from_numpy(targets.astype(np.int64)))


class Corpus:
    """The rows of several token stores that are trained on, as one sequence of N; `corpus[rows]` are their lengths.

    numbers: their places in the stores laid end to end, ascending; four bytes a row are kept of each.
    """

    def __init__(self, stores: Sequence[TokenStore], numbers: np.ndarray, masker: Masker, pad_id: int) -> None:
        self.stores = stores
        self.numbers = numbers
        self.masker = masker
        self.pad_id = pad_id
        self._firsts = np.cumsum([0, *map(len, stores)])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        places = self.numbers[rows]
        lengths = np.zeros(places.shape, dtype=np.int64)
        for store, first, end in zip(self.stores, self._firsts, self._firsts[1:], strict=False):
            mine = (places >= first) & (places < end)
            lengths[mine] = store.row_lengths[places[mine] - first]
        return lengths

    def masked(self, rows: np.ndarray, generator: Callable[[int], np.random.Generator]) -> MaskedRows:
        """Some rows with hidden tokens; `generator` is asked for each row's own, by its number."""
        picks = [self._pick(int(self.numbers[row])) for row in rows]
        return mask_rows(picks, [generator(int(row)) for row in rows], self.masker, self.pad_id)

    def _pick(self, place: int) -> tuple[TokenStore, int]:
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        return self.stores[number], place - int(self._firsts[number])
