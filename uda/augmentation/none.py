"""No augmentation: the encoder's dropout is the only noise."""

from collections.abc import Sequence

from uda.augmentation.base import Augmenter


class NoAugmentation(Augmenter):
    """Returns every text as it is."""

    unchanged = True

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        return list(texts)
