"""Which rows are labelled, unlabelled, test and dev."""

import logging
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from uda.data import sources
from uda.data.cache import cache_dir
from uda.data.draws import contradictory, draw, hold_out
from uda.data.frames import blank_after_cleaning, prepare, stored_frame
from uda.data.labels import as_text, found_names, given_names, label_indices, with_names
from uda.data.locations import check_standard_input
from uda.data.rows import CHUNK_ROWS, Rows, RowsWriter, stored_rows
from uda.data.settings import DataSettings, Source
from uda.errors import UserError

log = logging.getLogger(__name__)

TEST_SALT = "uda test"  # one test part for all seeds

# The settings that say nothing of a role's rows as they are stored.
_NO_PART = {
    *("labeled", "unlabeled", "test", "dev", "label_names", "label_descriptions", "num_labeled", "balanced"),
    *("labeled_ids", "num_test", "test_share", "keep_labeled", "seed", "max_length", "truncation", "sha256"),
}


@dataclass
class Split:
    """The rows of each role: frames with text (cleaned), label (index into `label_names`), key, raw_hash, folded.

    Where rows are pairs of texts, text_pair has the second ones and the hashes are over both.
    Their index is the row's number in its source, see `sources.read`. The unlabelled rows, of which there may be
    millions, lie on the disk; in memory where they are those of `data.labeled` that are not drawn. `num_source_rows`
    counts the rows of the unlabelled source, those that `where`, the test part and all else took away included;
    `dropped` counts the latter.
    """

    labeled: pd.DataFrame
    unlabeled: Rows
    test: pd.DataFrame | None
    dev: pd.DataFrame | None
    label_names: list[str]
    num_source_rows: int
    dropped: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Labelled, dev and test rows by number in their source and content hash of the raw text.

        Of the unlabelled rows their count and one hash over theirs: there may be millions.
        """
        roles = {"labeled": self.labeled, "dev": self.dev, "test": self.test}
        rows = {
            role: [{"index": int(index), "sha256": sha} for index, sha in zip(frame.index, frame.raw_hash, strict=True)]
            for role, frame in roles.items()
            if frame is not None
        }
        unlabeled = {"num_rows": len(self.unlabeled), "sha256": self.unlabeled.raw_sha256()}
        return {"label_names": self.label_names, "dropped": self.dropped, **rows, "unlabeled": unlabeled}


def load_split(settings: DataSettings) -> Split:
    """Read the sources and decide every row's role, as `data` in the config says."""
    settings = _checked(settings)
    pool = with_names(_prepared(settings, "labeled"), settings.label_names, "labeled")
    names = list(settings.label_names or found_names(pool.label, settings.label_column))
    pool["label"] = label_indices(pool, names, "labeled")
    num_pool_rows = pool.attrs["num_source_rows"]
    test = _labeled_role(settings, "test", names)
    dev = _labeled_role(settings, "dev", names)
    dropped: dict[str, int] = {}
    drawn = _draws_test(settings)
    if drawn or settings.num_labeled is not None:
        _count_contradictory(pool, dropped)
    if drawn:
        test = _drawn_test(pool, settings, names)
        pool = pool.drop(test.index)
    if settings.unlabeled is None:
        unlabeled, facts = Rows.of(pool), {"num_source_rows": num_pool_rows, "num_short": 0}
    else:
        unlabeled, facts = _unlabeled_rows(settings)
    if settings.min_characters:
        dropped["short unlabelled rows"] = facts["num_short"]
    if test is not None and dev is not None:
        dev = _without(dev, test, "dev rows that stand in test", dropped)
        if not len(dev):
            raise UserError("Expected rows of data.dev that are no test rows, found none. Give other rows in data.dev.")
    for role, frame in (("test", test), ("dev", dev)):
        if frame is not None:
            pool = _without(pool, frame, f"labelled rows that stand in {role}", dropped)
            unlabeled = _rows_without(unlabeled, frame, f"unlabelled rows that stand in {role}", dropped)
    labeled = _labeled_rows(pool, settings, names, dropped)
    if not settings.keep_labeled:
        unlabeled = _rows_without(unlabeled, labeled, "unlabelled rows that are labelled", dropped)
    for what, count in dropped.items():
        if count:
            log.info("dropped %d %s", count, what)
    return Split(labeled, unlabeled, test, dev, names, facts["num_source_rows"], dropped)


def load_test(settings: DataSettings, label_names: list[str]) -> pd.DataFrame:
    """The test rows alone, with the labels of a model: those of `data.test`, or the drawn ones of `data.labeled`."""
    if settings.test is not None:
        settings = replace(settings, label_names=given_names(settings.label_names))
        test = _labeled_role(settings, "test", label_names)
        assert test is not None
        return test
    if settings.labeled is None or not _draws_test(settings):
        raise UserError("Expected test rows, found neither data.test nor data.num_test. Set data.test=FILE.")
    settings = _checked(settings)
    pool = with_names(_prepared(settings, "labeled"), settings.label_names, "labeled")
    pool["label"] = label_indices(pool, label_names, "labeled")
    return _drawn_test(pool, settings, label_names)


def _draws_test(settings: DataSettings) -> bool:
    """Whether the test rows are drawn from the labelled ones."""
    return bool(settings.num_test) or (settings.test is None and settings.test_share is not None)


def _drawn_test(pool: pd.DataFrame, settings: DataSettings, names: list[str]) -> pd.DataFrame:
    if settings.num_test:
        return draw(pool, settings.num_test, TEST_SALT, names, "data.num_test")
    assert settings.test_share is not None
    test = hold_out(pool, settings.test_share, TEST_SALT, names)
    log.warning(
        "no data.test: %d of %d labelled rows are held out as test rows (data.test_share=%g). That proves little: an "
        "accuracy on %d rows lies within %.0f points of the true one 95 %% of the time (binomial, at its widest); more "
        "test rows, in data.test, tell more",
        len(test),
        len(pool),
        settings.test_share,
        len(test),
        98 / math.sqrt(len(test)),
    )
    return test


def _count_contradictory(pool: pd.DataFrame, dropped: dict[str, int]) -> None:
    count = int(contradictory(pool).sum())
    if count:
        dropped["labelled rows of texts with several labels from the draw"] = count


def _checked(settings: DataSettings) -> DataSettings:
    """The settings with the label names read, where they stand in a file."""
    if settings.labeled is None:
        raise UserError("data.labeled: expected where the labelled rows are, found nothing. Set data.labeled.")
    if settings.test is not None and settings.num_test:
        raise UserError(
            f"Expected either data.test or data.num_test, found both ({settings.test}, {settings.num_test}). "
            "Set data.num_test=0 to use data.test, or data.test=null to hold labelled rows back."
        )
    if settings.num_labeled is not None and settings.labeled_ids is not None:
        raise UserError(
            f"Expected either data.num_labeled or data.labeled_ids, found both ({settings.num_labeled}, "
            f"{settings.labeled_ids}). Set one of them to null."
        )
    roles = ("labeled", "unlabeled", "test", "dev")
    if settings.source is Source.files:
        check_standard_input({role: getattr(settings, role) for role in roles})
    return replace(settings, label_names=given_names(settings.label_names))


def _prepared(settings: DataSettings, role: str) -> pd.DataFrame:
    """The rows of a role with cleaned text, the two hashes and the number of characters of the raw text or pair.

    They are read once: from then on they lie in the cache, under what their files and the settings are.
    """
    tables = sources.tables(settings, role)

    def make() -> pd.DataFrame:
        frame = sources.read(settings, role, tables)
        if blank := prepare(frame, settings):
            raise blank_after_cleaning(role, blank[0], len(blank))
        return frame

    return stored_frame(cache_dir(), _made_of(settings, tables), make)


def _made_of(settings: DataSettings, tables: list[sources.Table]) -> list[object]:
    """What decides about the rows of these tables."""
    used = {name: value for name, value in asdict(settings).items() if name not in _NO_PART}
    return [used, [table.identity() for table in tables]]


def _unlabeled_rows(settings: DataSettings) -> tuple[Rows, dict[str, int]]:
    """The rows of `data.unlabeled` but for short ones; how many the source has, and how many were short.

    They are read once: from then on they lie in the cache, under what their files and the settings are.
    """
    tables = sources.tables(settings, "unlabeled")

    def write(writer: RowsWriter) -> dict[str, int]:
        facts = {"num_source_rows": 0, "num_short": 0}
        blank: list[int] = []
        for frame in sources.read_chunks(settings, "unlabeled", tables, CHUNK_ROWS):
            facts["num_source_rows"] = frame.attrs["num_source_rows"]
            blank += prepare(frame, settings)
            short = frame.label.isna() & (frame.num_characters < settings.min_characters)
            facts["num_short"] += int(short.sum())
            writer.append(frame[~short])
        if blank:
            raise blank_after_cleaning("unlabeled", blank[0], len(blank))
        return facts

    return stored_rows(cache_dir(), _made_of(settings, tables), settings.text_pair_column is not None, write)


def _labeled_role(settings: DataSettings, role: str, names: list[str]) -> pd.DataFrame | None:
    if getattr(settings, role) is None:
        return None
    frame = with_names(_prepared(settings, role), settings.label_names, role)
    return frame.assign(label=label_indices(frame, names, role))


def _without(frame: pd.DataFrame, other: pd.DataFrame, what: str, dropped: dict[str, int]) -> pd.DataFrame:
    """The rows whose text, cleaned and with white space folded, does not stand in `other`."""
    leaked = frame.folded.isin(set(other.folded))
    dropped[what] = int(leaked.sum())
    return frame[~leaked]


def _rows_without(rows: Rows, other: pd.DataFrame, what: str, dropped: dict[str, int]) -> Rows:
    """The same of rows on the disk."""
    kept = rows.without(set(other.folded))
    dropped[what] = len(rows) - len(kept)
    return kept


def _labeled_rows(
    pool: pd.DataFrame, settings: DataSettings, names: list[str], dropped: dict[str, int]
) -> pd.DataFrame:
    if settings.num_labeled is not None:
        salt = str(settings.seed)
        return draw(pool, settings.num_labeled, salt, names, "data.num_labeled", balanced=settings.balanced)
    if settings.labeled_ids is not None:
        pool = _rows_by_id(pool, settings)
    missing = [name for label, name in enumerate(names) if not (pool.label == label).any()]
    if missing:
        gone = [f"{count} {what}" for what, count in dropped.items() if count and what.startswith("labelled rows that")]
        advice = "Add some, or correct data.label_names."
        if gone:
            advice = (
                f"Left out were {' and '.join(gone)}. Add others, take these out of there, or correct data.label_names."
            )
        raise UserError(f"Expected labelled rows of every class, found none of {missing}. {advice}")
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
    wanted = wanted[wanted["id"].notna()]  # a blank line names no row
    ids = [str(as_text(value)) for value in wanted["id"]]
    rows = pool[pool.key.isin(ids)].reset_index().set_index("key", drop=False)
    for what, keys in ((f"in {path}", pd.Index(ids)), ("in data.labeled", rows.index)):
        if keys.has_duplicates:
            raise UserError(
                f"data.labeled_ids: expected every id once {what}, found '{keys[keys.duplicated()][0]}' more than "
                "once. Correct the file, or name a column of unique ids in data.id_column."
            )
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
