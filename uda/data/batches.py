"""One loader: a sampler that says which rows make a step, and the tensors made of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from uda.data.tokens import TokenStore


@dataclass(frozen=True)
class Tokens:
    """Right-padded rows: ids and mask [N, L]; for pairs token types [N, L] where the encoder has such, else None.

    lengths: the tokens of each row. They stay on the host, so that no GPU has to be waited for to know them.
    """

    ids: Tensor
    mask: Tensor
    lengths: list[int]
    types: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, rows: Sequence[int]) -> "Tokens":
        """Some rows, cut to the longest of them."""
        lengths = [self.lengths[row] for row in rows]
        longest = max(lengths, default=0)
        chosen = torch.tensor(rows, dtype=torch.int64).to(self.ids.device, non_blocking=True)
        return self._each(lambda tensor: tensor[chosen, :longest], lengths)

    def followed_by(self, other: "Tokens", pad_id: int) -> "Tokens":
        """The rows of both, padded to the longer."""
        parts = (self, other)
        length = max(self.ids.shape[1], other.ids.shape[1])
        pad = torch.nn.functional.pad
        ids = [pad(part.ids, (0, length - part.ids.shape[1]), value=pad_id) for part in parts]
        mask = [pad(part.mask, (0, length - part.mask.shape[1])) for part in parts]
        types = None
        if self.types is not None or other.types is not None:
            found = [torch.zeros_like(part.ids) if part.types is None else part.types for part in parts]
            types = torch.cat([pad(each, (0, length - each.shape[1])) for each in found])
        return Tokens(torch.cat(ids), torch.cat(mask), self.lengths + other.lengths, types)

    def padded_to(self, rows: int, length: int, max_length: int, pad_id: int) -> "Tokens":
        """The same rows and rows of one padding token after them, filled up to multiples of `rows` and `length`; no
        row beyond `max_length`.
        """
        (num_rows, longest), pad = self.ids.shape, torch.nn.functional.pad
        more = (0, max(min(-(-longest // length) * length, max_length) - longest, 0), 0, -num_rows % rows)
        mask = pad(self.mask, more)
        mask[num_rows:, 0] = 1  # attention to nothing at all is not a number
        types = None if self.types is None else pad(self.types, more)
        return Tokens(pad(self.ids, more, value=pad_id), mask, self.lengths + [1] * more[3], types)

    def to(self, device: torch.device) -> "Tokens":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), self.lengths)

    def pin_memory(self) -> "Tokens":
        return self._each(torch.Tensor.pin_memory, self.lengths)

    def _each(self, change: Callable[[Tensor], Tensor], lengths: list[int]) -> "Tokens":
        types = None if self.types is None else change(self.types)
        return Tokens(change(self.ids), change(self.mask), lengths, types)


def pad_rows(rows: Sequence[np.ndarray], pad_id: int, types: Sequence[np.ndarray] | None = None) -> Tokens:
    """Rows of token ids, and of token types if any, as one padded block."""
    lengths = [len(row) for row in rows]
    filled = np.arange(max(lengths, default=0)) < np.array(lengths, dtype=np.int64)[:, None]

    def block(parts: Sequence[np.ndarray], padding: int) -> Tensor:
        values = np.full(filled.shape, padding, dtype=np.int64)
        if parts:
            values[filled] = np.concatenate(parts)
        return torch.from_numpy(values)

    mask = torch.from_numpy(filled.astype(np.int64))
    return Tokens(block(rows, pad_id), mask, lengths, None if types is None else block(types, 0))


def pad_stored(picks: Sequence[tuple[TokenStore, int]], pad_id: int) -> Tokens:
    """Rows of token stores as one padded block."""
    types = [found for store, row in picks if (found := store.types_of(row)) is not None]
    return pad_rows([store[row] for store, row in picks], pad_id, types or None)


@dataclass(frozen=True)
class Batch:
    """The rows of one step on one process: labelled, and unlabelled in both views; `index` names the latter."""

    labeled: Tokens
    labels: Tensor
    weak: Tokens
    strong: Tokens
    index: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.labeled.to(device),
            self.labels.to(device, non_blocking=True),
            self.weak.to(device),
            self.strong.to(device),
            self.index.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Batch":
        """A copy from which a GPU reads while the CPU goes on; the DataLoader calls it."""
        return Batch(
            self.labeled.pin_memory(),
            self.labels.pin_memory(),
            self.weak.pin_memory(),
            self.strong.pin_memory(),
            self.index.pin_memory(),
        )


class Lengths(Protocol):
    """The number of tokens of each of N rows, looked up: an array, or what reads them where they lie."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> Any: ...


class RowStream:
    """An infinite, seeded stream of batches of rows: each row once an epoch, batches of like length.

    The stream is one random permutation of the rows after another. It is cut into groups of batches; within a
    group rows are sorted by length and cut into batches, which come in random order. A group is at most an eighth
    of an epoch, so that batches stay random where there are few rows. Where an epoch ends within a group, its rows
    and those of the next are sorted and shuffled apart, and so is the one batch that may span the end. Batch i is
    a function of (seed, i) alone.
    """

    _MAX_GROUP = 50

    def __init__(self, lengths: Lengths, batch_size: int, seed: int, stream: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.stream = stream
        self.group_size = max(1, min(self._MAX_GROUP, len(lengths) // (8 * batch_size)))
        self._epoch = (-1, np.zeros(0, dtype=np.int64))
        self._group = (-1, np.zeros((0, 0), dtype=np.int64))

    def batch(self, number: int) -> np.ndarray:
        """The rows of a batch, [batch_size]."""
        group, position = divmod(number, self.group_size)
        if self._group[0] != group:
            self._group = (group, self._make_group(group))
        return self._group[1][position]

    def _make_group(self, group: int) -> np.ndarray:
        size = self.group_size * self.batch_size
        rows = self._rows(group * size, (group + 1) * size)
        if self.group_size == 1:
            return rows[None]
        generator = np.random.default_rng((self.seed, self.stream, 1, group))
        full, rest = divmod(-group * size % len(self.lengths), self.batch_size)  # batches to the epoch's end, rows over
        parts = np.split(rows.reshape(self.group_size, self.batch_size), [full, full + (rest > 0)])
        return np.concatenate([self._shuffled(part, generator) for part in parts if len(part)])

    def _shuffled(self, batches: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The batches' rows sorted by length and cut anew, in random order."""
        rows = batches.ravel()
        batches = rows[np.argsort(self.lengths[rows], kind="stable")].reshape(batches.shape)
        return batches[generator.permutation(len(batches))]

    def _rows(self, start: int, end: int) -> np.ndarray:
        """The rows at the positions [start, end) of the stream."""
        parts = []
        while start < end:
            epoch, place = divmod(start, len(self.lengths))
            if self._epoch[0] != epoch:
                self._epoch = (-1, np.zeros(0, dtype=np.int64))  # freed before the next one is made
                generator = np.random.default_rng((self.seed, self.stream, 0, epoch))
                self._epoch = (epoch, _permutation(generator, len(self.lengths)))
            parts.append(self._epoch[1][place : place + end - start].astype(np.int64))
            start += len(parts[-1])
        return np.concatenate(parts)


def _permutation(generator: np.random.Generator, count: int) -> np.ndarray:
    """What `generator.permutation(count)` gives, in the smaller integers where they hold it."""
    order = np.arange(count, dtype=np.int32 if count <= np.iinfo(np.int32).max else np.int64)
    generator.shuffle(order)
    return order


@dataclass(frozen=True)
class StepRows:
    """The rows of one step on one process."""

    step: int
    labeled: np.ndarray
    unlabeled: np.ndarray


@dataclass(frozen=True)
class Phase:
    """Steps [start, end) with so many rows each, over all processes."""

    start: int
    end: int
    num_labeled: int
    num_unlabeled: int


class StepSampler(Sampler[StepRows]):
    """The rows of the steps from `first_step` on, in order; process `rank` of `num_processes` takes every n-th."""

    def __init__(
        self,
        labeled_lengths: Lengths,
        unlabeled_lengths: Lengths,
        phases: Sequence[Phase],
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.labeled_lengths = labeled_lengths
        self.unlabeled_lengths = unlabeled_lengths
        self.phases = phases
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[StepRows]:
        for number, phase in enumerate(self.phases):
            labeled = RowStream(self.labeled_lengths, phase.num_labeled, self.seed, stream=2 * number)
            unlabeled = None
            if phase.num_unlabeled:
                unlabeled = RowStream(self.unlabeled_lengths, phase.num_unlabeled, self.seed, stream=2 * number + 1)
            for step in range(max(phase.start, self.first_step), phase.end):
                yield StepRows(
                    step,
                    self._share(labeled.batch(step - phase.start)),
                    self._share(unlabeled.batch(step - phase.start))
                    if unlabeled is not None
                    else np.zeros(0, dtype=np.int64),
                )

    def _share(self, rows: np.ndarray) -> np.ndarray:
        return rows[self.rank :: self.num_processes]


class PairedRows(Dataset[Batch]):
    """Token stores to batches: labelled rows, and original and augmented view of unlabelled rows.

    strong: one store a copy of the augmentation; each step draws one copy for each row, by (seed, step, row).
    """

    def __init__(
        self,
        labeled: TokenStore,
        labels: np.ndarray,
        weak: TokenStore,
        strong: Sequence[TokenStore],
        pad_id: int,
        seed: int,
    ) -> None:
        self.labeled = labeled
        self.labels = labels
        self.weak = weak
        self.strong = strong
        self.pad_id = pad_id
        self.seed = seed

    def __getitem__(self, rows: StepRows) -> Batch:
        return Batch(
            pad_stored([(self.labeled, row) for row in rows.labeled], self.pad_id),
            torch.from_numpy(self.labels[rows.labeled]),
            pad_stored([(self.weak, row) for row in rows.unlabeled], self.pad_id),
            pad_stored([(self._copy(rows.step, row), row) for row in rows.unlabeled], self.pad_id),
            torch.from_numpy(rows.unlabeled),
        )

    def _copy(self, step: int, row: int) -> TokenStore:
        if len(self.strong) == 1:
            return self.strong[0]
        return self.strong[int(np.random.default_rng((self.seed, step, int(row))).integers(len(self.strong)))]


def make_loader(rows: PairedRows, sampler: StepSampler) -> DataLoader[Batch]:
    """The loader: the sampler emits a whole step, so nothing is left to collate."""
    return DataLoader(rows, sampler=sampler, batch_size=None, pin_memory=torch.cuda.is_available())
