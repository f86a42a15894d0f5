"""Runs of another version: told as what they are by every command that reads a run."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

import uda.evaluate
import uda.predict
import uda.report
from uda import judging, run_directory
from uda.config import compose, resolved
from uda.errors import UserError
from uda.stored import read_stored


def make_run(folder: Path, *absent: str, **more: Any) -> Path:
    """A run directory whose config.yaml lacks some keys of this version, and has more in its group `train`."""
    config = resolved(compose("train", ["+experiment=imdb"]))
    folder.mkdir(parents=True)
    run_directory.prepare(folder, config, {"label_names": ["neg", "pos"], "labeled": [], "test": []}, overwrite=False)
    content = yaml.safe_load((folder / "config.yaml").read_text())
    for key in absent:
        group, name = key.split(".")
        del content[group][name]
    content["train"] |= more
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize("command", ["evaluate", "predict", "augment"])
def test_a_run_that_lacks_keys_is_of_another_version(tmp_path: Path, command: str) -> None:
    run = make_run(tmp_path / "run", "train.sharding", "train.process_timeout")
    (tmp_path / "texts.txt").write_text("a film\n")
    files = [f"input={tmp_path}/texts.txt", f"output={tmp_path}/out.csv"]
    read = {
        "evaluate": lambda: uda.evaluate.run(compose("evaluate", [f"run={run}"])),
        "predict": lambda: uda.predict.run(compose("predict", [f"run={run}", *files])),
        "augment": lambda: judging.read_run(str(run)),
    }
    with pytest.raises(UserError) as error:
        read[command]()
    assert str(error.value) == (
        f"Expected the run in {run} to have the settings of this version of uda, found a config.yaml without "
        "train.sharding, train.process_timeout: another version made it. Use that version, or train again with this "
        "one."
    )


def test_a_run_with_keys_that_are_not_known_is_of_another_version(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", later=3)
    with pytest.raises(UserError) as error:
        read_stored(run)
    assert str(error.value) == (
        f"Expected the run in {run} to have settings that this version of uda knows, found train.later in its "
        "config.yaml: another version made it. Use that version, or train again with this one."
    )


def test_a_run_of_another_version_does_not_go_on(tmp_path: Path) -> None:
    """But for keys that enter no number."""
    wanted = resolved(compose("train", ["+experiment=imdb"]))
    run_directory.refuse_other_config(make_run(tmp_path / "free", "train.process_timeout", "train.sharding"), wanted)
    run = make_run(tmp_path / "run", "train.schedule", "train.sharding")
    with pytest.raises(UserError) as error:
        run_directory.refuse_other_config(run, wanted)
    assert str(error.value) == (
        f"Expected the run in {run} to have the settings of this version of uda, found a config.yaml without "
        "train.schedule: another version made it. Use that version, or train again with this one. Or set "
        "train.overwrite=true to start anew, or hydra.run.dir=DIR to write elsewhere."
    )


def test_a_report_says_which_runs_are_of_another_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_run(tmp_path / "runs/new")
    make_run(tmp_path / "runs/old", "train.process_timeout", "train.sharding")
    with caplog.at_level(logging.WARNING):
        uda.report.run(compose("report", [f"runs={tmp_path}/runs"]))
    assert caplog.messages == [
        "1 of 2 runs lack settings of this version of uda (train.sharding): another version made them, and they stand "
        "in groups of their own; train them again to compare them with the others"
    ]
