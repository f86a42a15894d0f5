import pytest

from uda.augmentation.lengths import keeps_length


@pytest.mark.parametrize(
    ("original", "new", "kept"),
    [
        (10, 10, True),
        (9, 10, False),
        (10, 9, False),
        (0, 0, False),
        (20, 10, True),  # |10 - 20| / 20 = 0.5
        (21, 10, False),  # 11 / 21 > 0.5
        (20, 30, True),
        (20, 31, False),
        (30, 20, True),  # the share is of the original: 10 / 30
        (31, 15, False),  # 16 / 31 > 0.5
    ],
)
def test_lengths_at_the_edges(original: int, new: int, kept: bool) -> None:
    assert keeps_length("a" * original, "b" * new) is kept


def test_lengths_count_characters_not_bytes() -> None:
    assert keeps_length("é" * 10, "e" * 15)
    assert not keeps_length("é" * 9, "e" * 10)
