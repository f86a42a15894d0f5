"""`python -m uda.augment`: the augmented texts of an experiment into the cache, where `uda.train` finds them."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from uda import cli, config, instances, judging, run_directory
from uda.config import AugmentConfig
from uda.errors import UserError, memory_told
from uda.files import remove_empty

_BATCH_SIZE = 64
_MEMORY = (
    "What was made until now is in the cache: give the same command again with a lower augment.num_workers, or, of "
    "translation models, a lower augment.tokens_per_batch."
)

log = logging.getLogger("uda.augment")  # under `python -m` this module is called __main__


@dataclass(frozen=True)
class Result:
    """What a run did; the numbers are those of `metrics.json`.

    texts: copies that were wanted, of which some were computed and the others found in the cache. kept_as_original: the
    share of copies that are the original. judgement: what the copies are like (`uda.augmentation.judgement`), table:
    the same for people. cache_bytes: of the whole cache, own_bytes: of what this method made with these
    settings.
    """

    run_dir: str
    texts: int
    computed: int
    found: int
    kept_as_original: float
    judgement: dict[str, Any]
    seconds: float
    texts_per_second: float
    cache: str
    cache_bytes: int
    own_bytes: int
    table: str


def run(cfg: DictConfig) -> Result:
    """Make what the cache lacks of the copies that `uda.train` with the same config asks for.

    Raises UserError for what the user has to mend and `cli.Interrupted` after a signal; what was made before is kept.
    """
    settings = config.read_augment(cfg)
    folder = config.run_dir(settings)
    run_directory.refuse_run(folder, "hydra.run.dir")
    instances.build_augmenter(settings.augment, lowercase=True)
    if settings.run is not None:
        judging.read_run(settings.run)
    with cli.log_kept() as log_to, memory_told(_MEMORY):
        return _augment(settings, folder, log_to)


def clear(cfg: DictConfig) -> int:
    """Delete what the method with these settings has in the cache, of any texts; how many bytes were freed."""
    from uda.augmentation.cache import clear as delete
    from uda.augmentation.cache import own_folders, size_in_bytes
    from uda.augmenting import cache_of
    from uda.files import finish_removing, unwritable

    settings = config.read_augment(cfg)
    cache, augmenter = cache_of(settings.augment), instances.build_augmenter(settings.augment, lowercase=True)
    folders = own_folders(cache, augmenter, instances.deciding(settings.augment))
    size = sum(map(size_in_bytes, folders))
    for folder in folders:
        try:
            delete(folder)
        except OSError as error:
            raise unwritable(folder, error) from error
    log.info("deleted %s of texts augmented with these settings in %s", _size(size), cache)
    if finish_removing(cache / type(augmenter).__name__):
        log.info("deleted what a clearing that was stopped had left there")
    return size


def _augment(settings: AugmentConfig, folder: Path, log_to: Callable[[Path], None]) -> Result:
    from uda.augmentation.cache import own_folders, size_in_bytes
    from uda.augmentation.filling import Shard
    from uda.augmentation.judgement import judge
    from uda.augmenting import cache_of, encoder_lowercases, leaves_case_open, make_copies
    from uda.data.splits import load_split
    from uda.engine.settings import Precision
    from uda.files import unwritable, write_text

    started = time.monotonic()
    node = settings.augment
    lowercase = leaves_case_open(node) and encoder_lowercases(settings.model)
    split = load_split(settings.data)
    if not len(split.unlabeled):
        raise UserError(
            "Expected unlabelled texts to augment, found 0. Set data.unlabeled, or lower data.num_labeled so that "
            "labelled rows are left over."
        )
    shard = Shard(node["shard"], node["num_shards"])
    copies = make_copies(node, split.unlabeled, split.num_source_rows, lowercase, shard)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log_to(folder / "augment.log")
    except OSError as error:
        raise unwritable(folder, error) from error
    with cli.signals_interrupt("; what was made until now is in the cache: the same command goes on from there"):
        filled = copies.fill()
        count = _Count()
        num_texts = filled.wanted // node["num_copies"]
        found = judge(count.of(copies.pairs()), num_texts, node["num_copies"], settings.seed)
        if settings.run is not None:
            found = found.with_agreement(
                judging.classifier_agreement(
                    settings.run,
                    copies.pairs(),
                    num_texts,
                    node["num_copies"],
                    settings.seed,
                    Precision.auto,
                    _BATCH_SIZE,
                )
            )
        copies.close()
    name = type(copies.augmenter).__name__
    write_text(folder / "augmentation.html", found.html(f"{settings.name}: {name}"))
    cache = cache_of(node)
    result = Result(
        run_dir=str(folder),
        texts=filled.wanted,
        computed=filled.computed,
        found=filled.wanted - filled.computed,
        kept_as_original=count.kept / max(count.copies, 1),
        judgement=found.as_json(),
        seconds=time.monotonic() - started,
        texts_per_second=filled.computed / filled.seconds if filled.computed else 0.0,
        cache=str(cache),
        cache_bytes=size_in_bytes(cache),
        own_bytes=sum(map(size_in_bytes, own_folders(cache, copies.augmenter, instances.deciding(node)))),
        table=found.table(),
    )
    numbers = {key: value for key, value in asdict(result).items() if key != "table"}
    write_text(folder / "metrics.json", json.dumps(numbers, indent=2) + "\n")
    return result


@dataclass
class _Count:
    """How many copies went by, and how many of them were the original."""

    copies: int = 0
    kept: int = 0

    def of(self, pairs: Iterator[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
        for original, copies in pairs:
            self.copies += len(copies)
            self.kept += copies.count(original)
            yield original, copies


def show(result: Result) -> None:
    """What was done, and what the cache holds, on standard error."""
    speed = f" ({result.texts_per_second:.1f} a second)" if result.computed else ""
    lines = [
        f"{result.texts} texts: {result.computed} computed{speed}, the other {result.found} in the cache or "
        f"equal to one; {100 * result.kept_as_original:.1f} % kept as original; {result.seconds:.1f} s",
        f"cache: {result.cache}, {_size(result.cache_bytes)}, of which with these settings {_size(result.own_bytes)} "
        "(clear=true deletes them)",
        f"pairs to look at: {Path(result.run_dir) / 'augmentation.html'}",
    ]
    print("", result.table, "", *lines, sep="\n", file=sys.stderr)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"


def job(cfg: DictConfig) -> None:
    """One job of the command line."""
    if cfg["clear"]:  # `cfg.clear` is a method
        clear(cfg)
        remove_empty(config.run_dir(config.read_augment(cfg)))
    else:
        show(run(cfg))


if __name__ == "__main__":
    cli.main("augment", AugmentConfig, job)
