import itertools
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from uda.data.batches import Batch, PairedRows, Phase, RowStream, StepRows, StepSampler, Tokens, make_loader, pad_rows
from uda.data.tokens import RowLengths, TokenStore

PAD = 9


def lengths_of(num_rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, 129, num_rows)


def batches(stream: RowStream, count: int) -> np.ndarray:
    return np.stack([stream.batch(number) for number in range(count)])


def padding_share(chosen: np.ndarray, lengths: np.ndarray) -> float:
    blocks = sum(len(rows) * lengths[rows].max() for rows in chosen)
    return float(1 - lengths[chosen].sum() / blocks)


# RowStream


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "num_batches", "epochs"),
    [
        (20, 4, 5, 1),  # fewer than eight batches an epoch: no grouping
        (20, 4, 15, 3),
        (20, 20, 3, 3),
        (7, 4, 7, 4),  # no multiple: 7 batches of 4 are 4 epochs of 7
        (1600, 16, 96, 0.96),  # grouped by 12 batches
        (1000, 12, 250, 3),  # grouped by 10: 3,000 rows are 25 whole groups and 3 epochs
        (3, 8, 3, 8),  # fewer rows than a batch has
        (1, 4, 2, 8),
    ],
)
def test_each_row_once_an_epoch(num_rows: int, batch_size: int, num_batches: int, epochs: float) -> None:
    stream = RowStream(lengths_of(num_rows), batch_size, seed=0, stream=0)
    assert num_batches % stream.group_size == 0
    counts = Counter(batches(stream, num_batches).ravel().tolist())
    seen = [counts[row] for row in range(num_rows)]
    assert sum(seen) == num_batches * batch_size == round(epochs * num_rows)
    assert set(seen) == {int(epochs), -int(-epochs // 1)}


def test_rows_of_unfinished_groups_are_at_most_one_epoch_ahead() -> None:
    stream = RowStream(lengths_of(500), 16, seed=0, stream=0)  # groups of 3; 500 rows are 31.25 batches
    counts = np.zeros(500, dtype=int)
    for number in range(400):
        np.add.at(counts, stream.batch(number), 1)
        assert counts.max() - counts.min() <= 2
    assert counts.min() >= 11


def test_batches_of_one_epoch_hold_each_row_once() -> None:
    stream = RowStream(lengths_of(2000), 16, seed=0, stream=0)  # 125 batches an epoch in groups of 15
    assert sorted(batches(stream, 125).ravel().tolist()) == list(range(2000))


def test_no_row_twice_in_a_batch() -> None:
    stream = RowStream(lengths_of(2000), 16, seed=0, stream=0)
    assert [number for number in range(1000) if len(set(stream.batch(number).tolist())) < 16] == []


@pytest.mark.parametrize("num_rows", [2000, 1999, 1993, 1985])  # 125 batches, or 124 and 15, 9 and 1 rows more
def test_only_the_batch_that_spans_the_end_of_an_epoch_holds_rows_of_two(num_rows: int) -> None:
    lengths = lengths_of(num_rows)
    chosen = batches(RowStream(lengths, 16, seed=0, stream=0), 2 * num_rows // 16).ravel()
    whole, over = divmod(num_rows, 16)
    first, spanning, second = np.split(chosen, [16 * whole, 16 * (whole + (over > 0))])
    assert len(set(first.tolist())) == 16 * whole
    rest = Counter(set(range(num_rows)) - set(first.tolist()))  # of the first epoch
    assert rest <= Counter(spanning.tolist())
    second_epoch = Counter(second.tolist()) + (Counter(spanning.tolist()) - rest)
    assert set(second_epoch.values()) == {1}
    assert padding_share(chosen.reshape(-1, 16), lengths) < 0.08  # at an epoch's end groups are smaller


@pytest.mark.parametrize("num_rows", [2000, 1999])
def test_a_group_that_holds_an_end_is_sorted_too(num_rows: int) -> None:
    lengths = lengths_of(num_rows)
    chosen = batches(RowStream(lengths, 16, seed=0, stream=0), 135)[120:]  # the epoch ends within this group
    for part in (chosen[:4], chosen[5:]):
        part = lengths[part[np.argsort(lengths[part[:, 0]], kind="stable")]]
        assert (np.diff(part.ravel()) >= 0).all()


@pytest.mark.parametrize(("num_rows", "batch_size"), [(500, 16), (20, 4), (3, 8)])
def test_random_access_equals_sequence(num_rows: int, batch_size: int) -> None:
    lengths = lengths_of(num_rows)
    expected = batches(RowStream(lengths, batch_size, seed=3, stream=1), 100)
    stream = RowStream(lengths, batch_size, seed=3, stream=1)
    for number in np.random.default_rng(0).permutation(100):
        assert stream.batch(int(number)).tolist() == expected[number].tolist()
        fresh = RowStream(lengths, batch_size, seed=3, stream=1)
        assert fresh.batch(int(number)).tolist() == expected[number].tolist()


@pytest.mark.parametrize(("num_rows", "batch_size"), [(500, 16), (20, 4)])
def test_other_seeds_and_streams_differ(num_rows: int, batch_size: int) -> None:
    lengths = lengths_of(num_rows)
    orders = {
        (seed, stream): batches(RowStream(lengths, batch_size, seed, stream), 20).tobytes()
        for seed in range(3)
        for stream in range(3)
    }
    assert len(set(orders.values())) == 9


def test_epochs_come_in_other_orders() -> None:
    epochs = batches(RowStream(lengths_of(20), 20, seed=0, stream=0), 3)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3


def test_batches_of_like_length_save_padding() -> None:
    lengths = lengths_of(2000)
    grouped = batches(RowStream(lengths, 16, seed=0, stream=0), 120)
    at_random = np.random.default_rng(0).permutation(2000)[: 120 * 16].reshape(120, 16)
    # The longest of 16 lengths drawn evenly from 5 to 128 is about 121, their mean 66.5: 45 % padding.
    assert padding_share(at_random, lengths) == pytest.approx(0.45, abs=0.02)
    # Within a group of 240 sorted rows a batch spans a fifteenth of the range, about 8 tokens: 4 of 70 are padding.
    assert padding_share(grouped, lengths) < 0.07


def test_batches_of_a_group_are_cuts_of_its_sorted_rows() -> None:
    lengths = lengths_of(2000)
    stream = RowStream(lengths, 16, seed=0, stream=0)
    assert stream.group_size == 15  # 2000 // (8 · 16)
    group = lengths[batches(stream, 15)]
    by_length = group[np.argsort(group[:, 0], kind="stable")]
    assert (np.diff(by_length.ravel()) >= 0).all()
    assert (by_length[:, 0] != group[:, 0]).any()  # the batches themselves come in random order


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "group_size"),
    [
        (25_000, 24, 50),  # 130 would be an eighth; 50 is the most
        (2_000, 16, 15),
        (128, 8, 2),
        (127, 8, 1),  # under two batches an eighth: single batches, in the order of the permutation
        (20, 4, 1),
        (3, 8, 1),
    ],
)
def test_group_is_at_most_an_eighth_of_an_epoch(num_rows: int, batch_size: int, group_size: int) -> None:
    stream = RowStream(lengths_of(num_rows), batch_size, seed=0, stream=0)
    assert stream.group_size == group_size
    assert group_size == 1 or group_size * batch_size <= num_rows / 8


def test_lengths_looked_up_give_the_same_batches() -> None:
    lengths = lengths_of(2000)
    looked_up = RowLengths(np.concatenate([[0], lengths.cumsum()]))
    expected = batches(RowStream(lengths, 16, seed=0, stream=0), 140)
    assert batches(RowStream(looked_up, 16, seed=0, stream=0), 140).tolist() == expected.tolist()


def test_an_epoch_is_the_permutation_of_the_generator() -> None:
    stream = RowStream(lengths_of(20), 20, seed=5, stream=1)  # one batch an epoch, so nothing is grouped
    for epoch in range(3):
        expected = np.random.default_rng((5, 1, 0, epoch)).permutation(20)
        assert stream.batch(epoch).tolist() == expected.tolist()
        assert stream.batch(epoch).dtype == np.int64  # the objective is given these numbers


def test_a_stream_holds_four_bytes_a_row() -> None:
    num_rows = 1_000_000
    lengths = RowLengths(np.arange(num_rows + 1))
    tracemalloc.start()
    try:
        stream = RowStream(lengths, 48, seed=0, stream=0)
        stream.batch(0)
        stream.batch(num_rows // 48 + 50)  # the next epoch
        assert tracemalloc.get_traced_memory()[1] < 4.3 * num_rows  # at most one permutation at a time
    finally:
        tracemalloc.stop()


# StepSampler

PHASES = [Phase(0, 7, 20, 0), Phase(7, 40, 4, 24)]
LABELED, UNLABELED = lengths_of(20, 1), lengths_of(1000, 2)


def steps(first_step: int = 0, rank: int = 0, num_processes: int = 1, seed: int = 5) -> list[StepRows]:
    sampler = StepSampler(LABELED, UNLABELED, PHASES, seed, first_step, rank, num_processes)
    return list(sampler)


def as_lists(chosen: Sequence[StepRows]) -> list[tuple[int, list[int], list[int]]]:
    return [(rows.step, rows.labeled.tolist(), rows.unlabeled.tolist()) for rows in chosen]


def test_phases() -> None:
    chosen = steps()
    assert [rows.step for rows in chosen] == list(range(40))
    assert [(len(rows.labeled), len(rows.unlabeled)) for rows in chosen] == [(20, 0)] * 7 + [(4, 24)] * 33
    assert all(sorted(rows.labeled.tolist()) == list(range(20)) for rows in chosen[:7])
    joint = Counter(row for rows in chosen[7:37] for row in rows.labeled.tolist())  # 30 steps of 4 are 6 epochs of 20
    assert joint == dict.fromkeys(range(20), 6)
    unlabeled = [row for rows in chosen[7:37] for row in rows.unlabeled.tolist()]  # 6 groups of 5 · 24 rows
    assert len(unlabeled) == len(set(unlabeled)) == 720
    assert 0 <= min(unlabeled) < max(unlabeled) < 1000


def test_every_phase_and_role_has_an_order_of_its_own() -> None:
    phases = [Phase(0, 5, 4, 4), Phase(5, 10, 4, 4)]
    chosen = list(StepSampler(LABELED, LABELED, phases, seed=0))
    orders = {
        tuple(np.concatenate([getattr(rows, role) for rows in half]).tolist())
        for role in ("labeled", "unlabeled")
        for half in (chosen[:5], chosen[5:])
    }
    assert len(orders) == 4
    assert all(sorted(order) == list(range(20)) for order in orders)


def test_no_unlabelled_rows_are_needed_without_a_phase_for_them() -> None:
    sampler = StepSampler(LABELED, np.zeros(0, dtype=np.int64), [Phase(0, 3, 4, 0)], seed=0)
    assert [len(rows.unlabeled) for rows in sampler] == [0, 0, 0]


def test_same_seed_same_steps() -> None:
    assert as_lists(steps()) == as_lists(steps())
    assert as_lists(steps()) != as_lists(steps(seed=6))


@pytest.mark.parametrize("first_step", [0, 1, 6, 7, 8, 25, 39, 40])
def test_resumed_steps_are_the_tail_of_an_undisturbed_run(first_step: int) -> None:
    assert as_lists(steps(first_step)) == as_lists(steps())[first_step:]


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_ranks_share_the_rows_of_a_step(num_processes: int) -> None:
    ranks = [steps(rank=rank, num_processes=num_processes) for rank in range(num_processes)]
    for whole, *shares in zip(steps(), *ranks, strict=True):
        assert {share.step for share in shares} == {whole.step}
        for role in ("labeled", "unlabeled"):
            parts = [getattr(share, role).tolist() for share in shares]
            assert sorted(itertools.chain(*parts)) == sorted(getattr(whole, role).tolist())
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


# Tokens


def rows_of(*rows: Sequence[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int32) for row in rows]


def store_of(*rows: Sequence[int]) -> TokenStore:
    return TokenStore(np.concatenate(rows_of(*rows)), np.cumsum([0, *map(len, rows)]))


def as_rows(tokens: Tokens) -> tuple[list[list[int]], list[list[int]]]:
    return tokens.ids.tolist(), tokens.mask.tolist()


def test_padding() -> None:
    tokens = pad_rows(rows_of([1, 2, 3], [4], [5, 6]), PAD)
    assert as_rows(tokens) == ([[1, 2, 3], [4, PAD, PAD], [5, 6, PAD]], [[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    assert len(tokens) == 3
    assert tokens.ids.dtype == tokens.mask.dtype == torch.int64


def test_a_pad_id_within_a_row_is_not_masked() -> None:
    assert as_rows(pad_rows(rows_of([1, PAD], [2]), PAD)) == ([[1, PAD], [2, PAD]], [[1, 1], [1, 0]])


def test_no_rows() -> None:
    tokens = pad_rows([], PAD)
    assert tokens.ids.shape == tokens.mask.shape == (0, 0)
    assert len(tokens) == 0


def test_select_cuts_to_the_longest() -> None:
    tokens = pad_rows(rows_of([1, 2, 3], [4], [5, 6]), PAD)
    expected = ([[5, 6], [4, PAD]], [[1, 1], [1, 0]])
    assert as_rows(tokens.select([2, 1])) == expected
    assert tokens.select([2, 1]).lengths == [2, 1]
    assert as_rows(tokens.select(range(1, 2))) == ([[4]], [[1]])
    assert tokens.select(range(3)).ids.shape == (3, 3)
    assert tokens.select([]).ids.shape == (0, 0)


def test_followed_by_pads_to_the_longer() -> None:
    short, long = pad_rows(rows_of([1, 2], [3]), PAD), pad_rows(rows_of([4, 5, 6]), PAD)
    assert as_rows(short.followed_by(long, PAD)) == (
        [[1, 2, PAD], [3, PAD, PAD], [4, 5, 6]],
        [[1, 1, 0], [1, 0, 0], [1, 1, 1]],
    )
    assert as_rows(long.followed_by(short, PAD)) == (
        [[4, 5, 6], [1, 2, PAD], [3, PAD, PAD]],
        [[1, 1, 1], [1, 1, 0], [1, 0, 0]],
    )


def test_followed_by_no_rows() -> None:
    rows, none = pad_rows(rows_of([1, 2], [3]), PAD), pad_rows([], PAD)
    assert as_rows(rows.followed_by(none, PAD)) == as_rows(rows) == as_rows(none.followed_by(rows, PAD))


# PairedRows


def paired(num_copies: int, num_rows: int = 4, seed: int = 0) -> PairedRows:
    """Labelled row i is [10 + i], unlabelled row i is [100 + i] and its copy c has c + 1 more tokens of 1000 + c."""
    return PairedRows(
        store_of(*[[10 + row] * (row + 1) for row in range(3)]),
        np.array([1, 0, 1]),
        store_of(*[[100 + row] for row in range(num_rows)]),
        [store_of(*[[100 + row] + [1000 + c] * (c + 1) for row in range(num_rows)]) for c in range(num_copies)],
        PAD,
        seed,
    )


def test_batch_of_a_step() -> None:
    batch = paired(1)[StepRows(0, np.array([2, 0]), np.array([3, 1, 3]))]
    assert as_rows(batch.labeled) == ([[12, 12, 12], [10, PAD, PAD]], [[1, 1, 1], [1, 0, 0]])
    assert batch.labels.tolist() == [1, 1]
    assert batch.labels.dtype == torch.int64
    assert as_rows(batch.weak) == ([[103], [101], [103]], [[1]] * 3)
    assert as_rows(batch.strong) == ([[103, 1000], [101, 1000], [103, 1000]], [[1, 1]] * 3)
    assert batch.index.tolist() == [3, 1, 3]


def test_batch_of_labelled_rows_alone() -> None:
    batch = paired(1)[StepRows(0, np.array([1]), np.zeros(0, dtype=np.int64))]
    assert batch.labeled.ids.tolist() == [[11, 11]]
    assert (len(batch.weak), len(batch.strong), len(batch.index)) == (0, 0, 0)


def test_batch_moves_whole() -> None:
    moved = paired(1)[StepRows(0, np.array([1]), np.array([2]))].to(torch.device("meta"))
    tensors = [moved.labels, moved.index]
    tensors += [tensor for part in (moved.labeled, moved.weak, moved.strong) for tensor in (part.ids, part.mask)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_loader_pins_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a DataLoader with pin_memory=True does with each batch; where there is no GPU it leaves it out."""
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(tensor) or tensor.clone())
    batch = paired(1)[StepRows(0, np.array([1]), np.array([2, 0]))]
    copy = torch.utils.data._utils.pin_memory.pin_memory(batch)
    assert isinstance(copy, Batch)
    tensors = [
        [part.labels, part.index, *itertools.chain(*((t.ids, t.mask) for t in (part.labeled, part.weak, part.strong)))]
        for part in (batch, copy)
    ]
    assert {id(tensor) for tensor in pinned} == {id(tensor) for tensor in tensors[0]}
    assert all(a is not b and a.equal(b) for a, b in zip(*tensors, strict=True))


def copies_drawn(rows: PairedRows, step: int, chosen: list[int]) -> list[int]:
    """Which copy each row got, by the number of its tokens."""
    strong = rows[StepRows(step, np.zeros(0, dtype=np.int64), np.array(chosen))].strong
    return [int(length) - 2 for length in strong.mask.sum(dim=1)]


def test_copies_are_drawn_by_step_and_row() -> None:
    num_rows, num_steps = 20, 100
    rows = paired(2, num_rows)
    drawn = np.array([copies_drawn(rows, step, list(range(num_rows))) for step in range(num_steps)])
    # 2,000 fair draws: 1,000 ± 4 · √(2,000 / 4) = ± 89; each row 50 ± 4 · 5, each step 10 ± 4 · 2.24.
    assert abs(drawn.sum() - 1000) < 90
    assert (abs(drawn.sum(axis=0) - 50) <= 20).all()
    assert (abs(drawn.sum(axis=1) - 10) <= 9).all()
    again = paired(2, num_rows)
    for step in (3, 99, 0):  # neither the order of steps nor the other rows of the batch matter
        assert copies_drawn(again, step, [17, 4]) == drawn[step, [17, 4]].tolist()
    assert copies_drawn(paired(2, num_rows, seed=1), 0, list(range(num_rows))) != drawn[0].tolist()


def test_every_copy_occurs() -> None:
    rows = paired(3)
    assert {copies_drawn(rows, step, [0])[0] for step in range(40)} == {0, 1, 2}


def test_loader_gives_the_batches_of_the_sampler_in_order() -> None:
    rows = paired(2)
    phases = [Phase(0, 2, 3, 0), Phase(2, 6, 1, 2)]
    sampler = StepSampler(rows.labeled.lengths, rows.weak.lengths, phases, seed=0, first_step=1)
    loaded = list(make_loader(rows, sampler))
    assert len(loaded) == 5
    for batch, chosen in zip(loaded, sampler, strict=True):
        assert isinstance(batch, Batch)
        assert batch.index.tolist() == chosen.unlabeled.tolist()
        assert batch.labels.tolist() == rows.labels[chosen.labeled].tolist()
        assert as_rows(batch.strong) == as_rows(rows[chosen].strong)


def test_rows_filled_up_to_multiples_have_something_to_attend_to() -> None:
    filled = pad_rows([np.array([7, 8, 9])], 1, [np.array([0, 1, 1])]).padded_to(2, 5, 8, pad_id=1)
    assert filled.ids.tolist() == [[7, 8, 9, 1, 1], [1] * 5]
    assert filled.mask.tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert filled.types is not None
    assert filled.types.shape == (2, 5)
    assert filled.types[0].tolist() == [0, 1, 1, 0, 0]
    assert filled.lengths == [3, 1]
    assert pad_rows([np.array([7, 8, 9])], 1).padded_to(1, 5, 4, pad_id=1).ids.tolist() == [[7, 8, 9, 1]]
    same = filled.padded_to(2, 5, 8, pad_id=1)
    assert same.mask.tolist() == filled.mask.tolist()
