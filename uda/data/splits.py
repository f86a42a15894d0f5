"""Which rows are labelled, unlabelled, test and dev."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from uda.data import sources
from uda.data.cleaning import clean, content_hash, folded_hash
from uda.data.settings import DataSettings
from uda.errors import UserError

log = logging.getLogger(__name__)

TEST_SALT = "uda test"  # one test part for all seeds


@dataclass
class Split:
    """The rows of each role: frames with text (cleaned), label (index into `label_names`), key, raw_hash, folded.

    `num_source_rows` counts the unlabelled source's rows before any was dropped; `dropped` counts what was.
    """

    labeled: pd.DataFrame
    unlabeled: pd.DataFrame
    test: pd.DataFrame | None
    dev: pd.DataFrame | None
    label_names: list[str]
    num_source_rows: int
    dropped: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Labelled, dev and test rows by index in their source and content hash of the raw text."""
        roles = {"labeled": self.labeled, "dev": self.dev, "test": self.test}
        rows = {
            role: [{"index": int(index), "sha256": sha} for index, sha in zip(frame.index, frame.raw_hash, strict=True)]
            for role, frame in roles.items()
            if frame is not None
        }
        return {"label_names": self.label_names, "dropped": self.dropped, **rows}


def load_split(settings: DataSettings) -> Split:
    """Read the sources and decide every row's role, as `data` in the config says."""
    _check_settings(settings)
    pool = _prepared(settings, "labeled")
    names = _label_names(pool, settings)
    pool["label"] = _label_indices(pool, names, "labeled")
    test = _labeled_role(settings, "test", names)
    dev = _labeled_role(settings, "dev", names)
    if test is None and settings.num_test:
        test = draw(pool, settings.num_test, TEST_SALT, names, "data.num_test")
        pool = pool.drop(test.index)
    unlabeled = pool if settings.unlabeled is None else _prepared(settings, "unlabeled")
    num_source_rows = int(unlabeled.index.max()) + 1 if len(unlabeled) else 0
    dropped: dict[str, int] = {}
    if settings.min_characters:
        short = unlabeled.label.isna() & (unlabeled.text.str.len() < settings.min_characters)
        dropped["short unlabelled rows"] = int(short.sum())
        unlabeled = unlabeled[~short]
    for role, frame in (("test", test), ("dev", dev)):
        if frame is not None:
            pool = _without(pool, frame, f"labelled rows that stand in {role}", dropped)
            unlabeled = _without(unlabeled, frame, f"unlabelled rows that stand in {role}", dropped)
    labeled = _labeled_rows(pool, settings, names)
    if not settings.keep_labeled:
        unlabeled = _without(unlabeled, labeled, "unlabelled rows that are labelled", dropped)
    for what, count in dropped.items():
        log.info("dropped %d %s", count, what)
    return Split(labeled, unlabeled, test, dev, names, num_source_rows, dropped)


def load_test(settings: DataSettings, label_names: list[str]) -> pd.DataFrame:
    """The test rows alone, with the labels of a model: those of `data.test`, or the drawn ones of `data.labeled`."""
    if settings.test is not None:
        test = _labeled_role(settings, "test", label_names)
        assert test is not None
        return test
    if not settings.num_test:
        raise UserError("Expected test rows, found neither data.test nor data.num_test. Set data.test=FILE.")
    _check_settings(settings)
    pool = _with_names(_prepared(settings, "labeled"), settings)
    pool["label"] = _label_indices(pool, label_names, "labeled")
    return draw(pool, settings.num_test, TEST_SALT, label_names, "data.num_test")


def draw(pool: pd.DataFrame, num_rows: int, salt: str, names: list[str], key: str) -> pd.DataFrame:
    """Equally many rows a class, those whose SHA-256 of (salt, raw text) is lowest; equal texts are drawn once.

    No generator takes part, so the draw depends on the texts and the salt alone, not on their order.
    """
    if num_rows % len(names) or num_rows < len(names):
        raise UserError(
            f"{key}: expected a multiple of the number of classes ({len(names)}), found {num_rows}. "
            f"Set {key} to such a number, for example {max(num_rows // len(names), 1) * len(names)}."
        )
    ranked = pool.assign(rank=[content_hash(sha, salt) for sha in pool.raw_hash]).sort_values("rank", kind="stable")
    ranked = ranked.drop_duplicates("folded")
    per_class = num_rows // len(names)
    chosen = ranked.groupby("label", sort=True).head(per_class)
    for label, name in enumerate(names):
        found = int((chosen.label == label).sum())
        if found < per_class:
            raise UserError(
                f"{key}: expected {per_class} rows of each class, found {found} of '{name}'. Lower {key} or add rows."
            )
    return chosen.sort_values(["label", "rank"], kind="stable").drop(columns="rank")


def _check_settings(settings: DataSettings) -> None:
    if settings.labeled is None:
        raise UserError("data.labeled: expected where the labelled rows are, found nothing. Set data.labeled.")
    if settings.test is not None and settings.num_test:
        raise UserError(
            f"Expected either data.test or data.num_test, found both ({settings.test}, {settings.num_test}). "
            "Set data.num_test=0 to use data.test."
        )
    if settings.num_labeled is not None and settings.labeled_ids is not None:
        raise UserError(
            f"Expected either data.num_labeled or data.labeled_ids, found both ({settings.num_labeled}, "
            f"{settings.labeled_ids}). Set one of them to null."
        )


def _prepared(settings: DataSettings, role: str) -> pd.DataFrame:
    """The rows of a role with cleaned text and the two hashes."""
    frame = sources.read(settings, role)
    frame["raw_hash"] = [content_hash(text) for text in frame.text]
    frame["text"] = [clean(text, settings.cleaning) for text in frame.text]
    blank = [index for index, text in enumerate(frame.text) if not text.strip()]
    if blank:
        raise UserError(
            f"Expected some text in every row of data.{role} after cleaning, found none in {len(blank)} rows, "
            f"first at row {blank[0]} (counted from 0). Remove these rows or set data.cleaning=none."
        )
    frame["folded"] = [folded_hash(text) for text in frame.text]
    return frame


def _labeled_role(settings: DataSettings, role: str, names: list[str]) -> pd.DataFrame | None:
    if getattr(settings, role) is None:
        return None
    frame = _prepared(settings, role)
    return frame.assign(label=_label_indices(_with_names(frame, settings), names, role))


def _label_names(pool: pd.DataFrame, settings: DataSettings) -> list[str]:
    """The classes in order; replaces the pool's labels by their names."""
    pool["label"] = _with_names(pool, settings).label
    if settings.label_names is not None:
        return list(settings.label_names)
    names = sorted({str(label) for label in pool.label if label is not None})
    if len(names) < 2:
        raise UserError(
            f"Expected at least 2 classes in data.labeled, found {names}. Check data.label_column "
            f"('{settings.label_column}')."
        )
    return names


def _with_names(frame: pd.DataFrame, settings: DataSettings) -> pd.DataFrame:
    """Labels as names: with `label_names`, the numbers 0 to K - 1 stand for them in order."""
    names = settings.label_names or []
    by_number = {str(number): name for number, name in enumerate(names)}
    labels = [
        None if label is None else by_number.get(str(label), str(label)) if str(label) not in names else str(label)
        for label in frame.label
    ]
    return frame.assign(label=pd.Series(labels, index=frame.index, dtype=object))


def _label_indices(frame: pd.DataFrame, names: list[str], role: str) -> pd.Series:
    if frame.label.isna().any():
        row = int(frame.index[frame.label.isna()][0])
        raise UserError(
            f"Expected a label in every row of data.{role}, found none in row {row} (counted from 0). "
            "Label the row, or move it to data.unlabeled."
        )
    unknown = sorted(set(frame.label) - set(names))
    if unknown:
        raise UserError(
            f"Expected the labels of data.{role} to be among {names}, found also {unknown[:5]}. "
            f"Correct them, or give all classes in data.label_names."
        )
    return frame.label.map({name: index for index, name in enumerate(names)}).astype(int)


def _without(frame: pd.DataFrame, other: pd.DataFrame, what: str, dropped: dict[str, int]) -> pd.DataFrame:
    """The rows whose text, cleaned and with white space folded, does not stand in `other`."""
    leaked = frame.folded.isin(set(other.folded))
    dropped[what] = int(leaked.sum())
    return frame[~leaked]


def _labeled_rows(pool: pd.DataFrame, settings: DataSettings, names: list[str]) -> pd.DataFrame:
    if settings.labeled_ids is not None:
        return _rows_by_id(pool, settings)
    if settings.num_labeled is not None:
        return draw(pool, settings.num_labeled, str(settings.seed), names, "data.num_labeled")
    missing = [name for label, name in enumerate(names) if not (pool.label == label).any()]
    if missing:
        raise UserError(
            f"Expected labelled rows of every class, found none of {missing}. Add some, or correct data.label_names."
        )
    return pool


def _rows_by_id(pool: pd.DataFrame, settings: DataSettings) -> pd.DataFrame:
    """The labelled rows that a file names by id; where it has a text_sha256 column, the texts are checked."""
    path = Path(os.path.expandvars(str(settings.labeled_ids))).expanduser()
    wanted = sources.read_file(path)
    if settings.id_column is None or "id" not in wanted:
        raise UserError(
            f"data.labeled_ids: expected a column 'id' in {path} and data.id_column set, found the columns "
            f"{', '.join(map(str, wanted.columns))} and data.id_column={settings.id_column}. Give both."
        )
    rows = pool[~pool.key.duplicated()].reset_index().set_index("key", drop=False)
    ids = [str(value) for value in wanted["id"]]
    missing = [value for value in ids if value not in rows.index]
    if missing:
        raise UserError(
            f"data.labeled_ids: expected the ids of {path} among the rows of data.labeled that are in no test part, "
            f"found no row for {len(missing)} of them, first '{missing[0]}'. Check the file and data.id_column."
        )
    chosen = rows.loc[ids].set_index("index")
    if "text_sha256" in wanted and list(wanted.text_sha256) != list(chosen.raw_hash):
        raise UserError(
            f"data.labeled_ids: expected the texts of data.labeled to have the text_sha256 of {path}, found others. "
            "Use the data that the file was made for."
        )
    return chosen
