"""What a user says about the data; see `configs/data/`."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Chosen = int
else:
    Chosen = int | None  # null in a config asks `uda.choices`, which sets it before anything reads it


class Source(Enum):
    """Where `labeled`, `unlabeled`, `test` and `dev` are found."""

    files = "files"  # paths of files and folders; see uda.data.locations
    package = "package"  # paths inside the installed pip package `data.package`
    hub = "hub"  # splits of the Hugging Face data set `data.repository`


class Truncation(Enum):
    """Which end of a text that is too long is kept."""

    head = "head"
    tail = "tail"
    head_tail = "head_tail"  # a quarter from the head, the rest from the tail


class Cleaning(Enum):
    """What is removed from the raw text."""

    none = "none"
    html = "html"  # the markup of the IMDb reviews; see uda.data.cleaning


@dataclass
class DataSettings:
    """One field a config key; a location is one name or a list of names."""

    source: Source = Source.files
    labeled: Any = None  # where the labelled rows are
    unlabeled: Any = None  # where the unlabelled rows are; None: the rows of `labeled` that are not drawn
    test: Any = None  # where the test rows are; None: `num_test` rows of `labeled`
    dev: Any = None  # where the rows are that choose the best weights
    package: str | None = None  # source=package: the pip package
    repository: str | None = None  # source=hub: the data set
    subset: str | None = None  # source=hub: its configuration
    revision: str | None = None  # source=hub: a commit
    sha256: dict[str, str] = field(default_factory=dict)  # source=package: the SHA-256 that files must have
    where: Any = None  # {column: value}: keep the rows whose columns have these values
    format: str | None = None  # csv, tsv, orange, jsonl, text, parquet or arrow; None: as the file's name ends
    delimiter: str | None = None  # of a CSV: one character, or tab; None: found
    encoding: str | None = None  # of CSV, TSV, JSONL and text; None: that of the byte order mark, or else UTF-8
    header: bool | None = None  # False: a CSV's first line is a row, and its columns are column_0, column_1, …
    text_column: str = "text"
    text_pair_column: str | None = None  # the second text of rows that are pairs
    label_column: str = "label"
    id_column: str | None = None  # names rows, for `labeled_ids` and augment=files; None: the row's number from 0
    # The classes, or a file of them; the numbers 0 to K - 1 count into them; None: those found, sorted.
    label_names: Any = None
    label_descriptions: Any = None  # a sentence or a list of them for each label; the classifier starts from them
    cleaning: Cleaning = Cleaning.none
    min_characters: int = 0  # unlabelled rows without a label whose raw text is shorter are left out
    num_labeled: int | None = None  # draw so many labelled rows; None: all
    balanced: bool = True  # draw equally many a class; False: in proportion to the data, at least one a class
    labeled_ids: str | None = None  # a file whose column `id` names the labelled rows
    num_test: int = 0  # draw so many test rows of `labeled`, the same for every seed
    # Where there is neither `test` nor `num_test`: hold out this share of each class of `labeled`; None: nothing.
    test_share: float | None = None
    keep_labeled: bool = False  # labelled rows stay among the unlabelled ones (the official recipe)
    seed: int = 0  # of the draw of labelled rows
    max_length: Chosen = None  # type: ignore[assignment]  # tokens, special ones included; None: chosen
    truncation: Truncation = Truncation.head
