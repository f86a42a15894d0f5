"""Where an encoder is looked for."""

from pathlib import Path

import pytest

from uda.engine.locations import own_folder
from uda.engine.settings import ModelSettings


def test_a_folder_stands_in_for_an_encoder_of_a_package_unless_that_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "theirs", "empty"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "config.json").touch()
    sums = {"theirs/model.safetensors": "0"}
    assert own_folder(ModelSettings("mine", package="p", sha256=sums)) == Path("mine")
    assert own_folder(ModelSettings("theirs", package="p", sha256=sums)) is None
    assert own_folder(ModelSettings("empty", package="p", sha256=sums)) is None
    assert own_folder(ModelSettings("empty")) == Path("empty")
    assert own_folder(ModelSettings("none")) is None
