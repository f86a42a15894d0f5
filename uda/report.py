"""`python -m uda.report`: many runs as one table, with intervals, differences to a baseline, curves and failures."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from uda import cli, config
from uda.config import ReportConfig
from uda.errors import UserError
from uda.run_directory import FREE_KEYS
from uda.stored import absent_keys

if TYPE_CHECKING:
    from uda.reporting.runs import Run
    from uda.reporting.summary import Summary

log = logging.getLogger("uda.report")  # under `python -m` this module is called __main__


@dataclass(frozen=True)
class Report:
    """What was found, as Markdown too, and the files that were written."""

    summary: "Summary"
    markdown: str
    files: list[Path]


def run(cfg: DictConfig) -> Report:
    """Read the runs under `cfg.runs` and write report.html, report.csv and report-groups.csv, there or in `cfg.output`.

    Raises UserError where there are no runs, and for a metric or a baseline that they do not have.
    """
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReportConfig), cfg))
    assert isinstance(settings, ReportConfig)
    root = _folder(settings)
    output = root if settings.output is None else Path(os.path.expanduser(settings.output))
    from tqdm import tqdm

    from uda.files import write_text
    from uda.reporting.groups import read_options
    from uda.reporting.page import page
    from uda.reporting.runs import read_runs
    from uda.reporting.summary import summarise
    from uda.reporting.tables import groups_csv, markdown, runs_csv

    runs = list(tqdm(read_runs(root), desc="reading", unit=" runs", file=sys.stderr, disable=None, leave=False))
    if not runs:
        raise UserError(
            f"runs: expected a folder with run directories of uda.train at any depth, found none in {root}. Give "
            "another folder, such as runs=outputs/imdb."
        )
    _warn_of_other_versions(runs)
    options = read_options(config.config_dir())
    summary = summarise(root, runs, settings.metric, settings.baseline, options, FREE_KEYS)
    contents = {"report.html": page(summary), "report.csv": runs_csv(summary), "report-groups.csv": groups_csv(summary)}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_text(output / name, content)
    except (OSError, UserError) as error:
        raise UserError(
            f"output: expected a folder that can be written to, found {output}: {error}. Set output=DIR to write "
            "elsewhere."
        ) from error
    return Report(summary, markdown(summary), [output / name for name in contents])


def _warn_of_other_versions(runs: "list[Run]") -> None:
    """Settings that only some runs have part them into groups."""
    lacking = [set(absent_keys(run.settings)) - set(FREE_KEYS) for run in runs if run.settings]
    if keys := sorted(set().union(*lacking)):
        log.warning(
            "%d of %d runs lack settings of this version of uda (%s): another version made them, and they stand in "
            "groups of their own; train them again to compare them with the others",
            sum(map(bool, lacking)),
            len(runs),
            ", ".join(keys),
        )


def _folder(settings: ReportConfig) -> Path:
    if settings.runs is None:
        raise UserError("runs: expected a folder with run directories, found none. Set runs=outputs/….")
    folder = Path(os.path.expanduser(settings.runs))
    if not folder.is_dir():
        raise UserError(f"runs: expected a folder with run directories, found none at {folder}. Check the path.")
    return folder


def job(cfg: DictConfig) -> None:
    """One job of the command line: the table on standard output, where the files lie on standard error."""
    report = run(cfg)
    print(report.markdown, end="", flush=True)
    print(f"\nwritten: {', '.join(map(str, report.files))}", file=sys.stderr)


if __name__ == "__main__":
    cli.main("report", ReportConfig, job)
