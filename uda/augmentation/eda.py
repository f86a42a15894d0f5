"""Easy data augmentation: synonyms, insertions, swaps and deletions of single words."""

from collections.abc import Sequence

import numpy as np

from uda.augmentation import wordnet as dictionary
from uda.augmentation import words
from uda.augmentation.base import Augmenter, code_hash, text_generator
from uda.augmentation.words import exchange_spans, word_spans
from uda.errors import UserError

# Words that have a place in a sentence rather than a meaning; with the parts that contractions are cut into.
_NAMED = """
    a about above after again against all also am among an and any are as at be because been before being below between
    both but by can cannot could did do does doing done down during each either else ever every few for from further had
    has have having he her here hers herself him himself his how however i if in into is it its itself just many may me
    might mine more most much must my myself neither no nor not now of off often on once one only onto or other our ours
    ourselves out over own per perhaps rather same shall she should since so some such than that the their theirs them
    themselves then there these they this those though through thus to too toward towards under until up upon us very
    was we were what when where whether which while who whom whose why will with within without would yet you your yours
    yourself yourselves ain aren couldn didn doesn don hadn hasn haven isn ll mightn mustn needn re shan shouldn ve wasn
    weren won wouldn
"""
_STOP_WORDS = frozenset(_NAMED.split())


class Eda(Augmenter):
    """Changes a few words of a text by one operation, drawn for each copy from those whose strength is above 0.

    With L words (punctuation marks are none) and n = max(1, ⌊alpha · L⌋): `alpha_sr` replaces n words by synonyms,
    `alpha_ri` inserts synonyms of n words anywhere, `alpha_rs` swaps two words n times; `p_rd` deletes each word with
    that probability, but never the last one. Synonyms are WordNet's (`wordnet`: its folder, None: found where Debian or
    NLTK put it); stop words and single characters get none. Everything else stays as it is, and so does a text
    where no word has a synonym.
    Source: Wei and Zou, "EDA: Easy Data Augmentation Techniques", arXiv 1901.11196, section 2.
    """

    def __init__(
        self, alpha_sr: float, alpha_ri: float, alpha_rs: float, p_rd: float, wordnet: str | None, seed: int
    ) -> None:
        strengths = {"alpha_sr": alpha_sr, "alpha_ri": alpha_ri, "alpha_rs": alpha_rs, "p_rd": p_rd}
        for key, value in strengths.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(
                    f"augment.{key}: expected a share of words from 0 to 1, found {value!r}. Set augment.{key}=0.1, or "
                    "to 0 to leave this operation out."
                )
        if not any(strengths.values()):
            raise UserError(
                f"augment.alpha_sr: expected at least one of {', '.join(strengths)} above 0, found 0 for all of them. "
                "Set one, or choose augment=none."
            )
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise UserError(f"augment.seed: expected a whole number, found {seed!r}. Set augment.seed=0.")
        self.operations = [(key, value) for key, value in strengths.items() if value]
        self.seed = seed
        self.folder = dictionary.find_wordnet(wordnet)

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        return [self._changed(text, text_generator(self.seed, copy, text)) for text in texts]

    def fingerprint(self) -> str:
        return super().fingerprint() + code_hash(dictionary, words) + dictionary.content_hash(self.folder)

    def _changed(self, text: str, generator: np.random.Generator) -> str:
        spans = [(start, end) for start, end in word_spans(text) if text[start].isalnum()]
        if not spans:
            return text
        operation, strength = self.operations[generator.integers(len(self.operations))]
        if operation == "p_rd":
            return _delete(text, spans, strength, generator)
        count = max(1, int(strength * len(spans)))
        found = [text[start:end] for start, end in spans]
        if operation == "alpha_sr":
            changed = self._replace(found, count, generator)
        elif operation == "alpha_ri":
            changed = self._insert(found, count, generator)
        else:
            changed = _swap(found, count, generator)
        places = sorted(changed)
        return exchange_spans(text, [spans[place] for place in places], [changed[place] for place in places])

    def _replace(self, found: list[str], count: int, generator: np.random.Generator) -> dict[int, str]:
        """At most `count` words with a synonym in their place, capitalised as they are."""
        changed = {}
        for place in generator.permutation(len(found)).tolist():
            if options := self._synonyms(found[place]):
                synonym = options[generator.integers(len(options))]
                changed[place] = synonym[0].upper() + synonym[1:] if found[place][0].isupper() else synonym
            if len(changed) == count:
                break
        return changed

    def _insert(self, found: list[str], count: int, generator: np.random.Generator) -> dict[int, str]:
        """Words with synonyms of `count` of them before or behind them."""
        with_synonyms = [options for word in found if (options := self._synonyms(word))]
        changed: dict[int, str] = {}
        for _ in range(count if with_synonyms else 0):
            options = with_synonyms[generator.integers(len(with_synonyms))]
            synonym = options[generator.integers(len(options))]
            place = int(generator.integers(len(found) + 1))
            if place < len(found):
                changed[place] = f"{synonym} {changed.get(place, found[place])}"
            else:
                changed[place - 1] = f"{changed.get(place - 1, found[place - 1])} {synonym}"
        return changed

    def _synonyms(self, word: str) -> tuple[str, ...]:
        lower = word.lower()
        return () if len(lower) == 1 or lower in _STOP_WORDS else dictionary.synonyms(self.folder, lower)


def _swap(found: list[str], count: int, generator: np.random.Generator) -> dict[int, str]:
    """The words that stand elsewhere after `count` swaps of two."""
    if len(found) < 2:
        return {}
    swapped = list(found)
    for _ in range(count):
        one, other = generator.choice(len(found), size=2, replace=False).tolist()
        swapped[one], swapped[other] = swapped[other], swapped[one]
    return {place: word for place, word in enumerate(swapped) if word != found[place]}


def _delete(text: str, spans: list[tuple[int, int]], probability: float, generator: np.random.Generator) -> str:
    """The text without the words that are drawn and the white space before them; one stays if all are drawn."""
    gone = generator.random(len(spans)) < probability
    if gone.all():
        gone[generator.integers(len(spans))] = False
    pieces, position = [], 0
    for place in gone.nonzero()[0].tolist():
        start, end = spans[place]
        pieces.append(text[position:start].rstrip())
        position = end
    result = "".join([*pieces, text[position:]])
    return result if text[0].isspace() else result.lstrip()
