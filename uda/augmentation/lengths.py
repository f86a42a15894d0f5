"""The official length check of back-translation."""

_MIN_LENGTH = 10  # characters
_MAX_CHANGE = 0.5  # of the original's length


def keeps_length(original: str, new: str) -> bool:
    """Whether a back-translation is long and short enough to stand for its original; otherwise the original stays.

    False where either text has under 10 characters, or where their lengths differ by more than half of the original's.
    Source: the official code of "Unsupervised Data Augmentation for Consistency Training", arXiv 1904.12848.
    """
    if min(len(original), len(new)) < _MIN_LENGTH:
        return False
    return abs(len(new) - len(original)) / len(original) <= _MAX_CHANGE
