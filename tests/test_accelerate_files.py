"""The config files of `scripts/accelerate/`, by Accelerate's own reader, launcher and arguments for torchrun."""

import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.launch import _filter_args, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.run import config_from_args, get_args_parser

from uda.config import compose, config_dir, read_train
from uda.engine.process import Process
from uda.engine.settings import Precision, Sharding
from uda.errors import UserError

ROOT = config_dir().parent
FILES = sorted((ROOT / "scripts/accelerate").glob("*.yaml"))
EXPECTED = {  # machines, processes of each, sharding
    "one_gpu": (1, 1, Sharding.none),
    "eight_gpus": (1, 8, Sharding.none),
    "two_nodes": (2, 8, Sharding.none),
    "fsdp": (1, 8, Sharding.full),
}


def commands(path: Path) -> list[list[str]]:
    """The commands in a file's first lines, without `accelerate launch`."""
    lines = [line[2:] for line in path.read_text().splitlines() if line.startswith("# accelerate launch ")]
    return [shlex.split(line)[2:] for line in lines]


def parsed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """The arguments as the launcher sees them, with those of the file."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)
    return launch._validate_launch_command(launch.launch_command_parser().parse_args(command))[0]


def test_each_file_is_expected() -> None:
    assert {path.stem for path in FILES} == EXPECTED.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_launches_what_it_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines, processes, sharding = EXPECTED[path.stem]
    assert load_config_from_file(str(path)).num_processes == machines * processes
    assert len(commands(path)) == machines
    for rank, command in enumerate(commands(path)):
        arguments = parsed(command, monkeypatch)
        assert arguments.config_file == f"scripts/accelerate/{path.name}"
        if processes == 1:
            line, environment = prepare_simple_launcher_cmd_env(arguments)
            assert line[1:] == ["-m", "uda.train", "+experiment=imdb"]
        else:
            environment = prepare_multi_gpu_env(arguments)
            script = ["--training_script", "uda.train", "--training_script_args", arguments.training_script_args]
            config, _, line = config_from_args(_filter_args(arguments, get_args_parser(), script))
            assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (machines, machines, processes)
            assert line[line.index("-m") + 1] == "uda.train"
            if machines > 1:
                assert (config.rdzv_backend, config.rdzv_endpoint) == ("static", "HOST:29500")
                assert config.rdzv_configs["rank"] == rank
        assert "ACCELERATE_USE_FSDP" not in environment
        train = read_train(compose("train", arguments.training_script_args)).train
        assert train.sharding is sharding
        assert train.batch_size % (machines * processes) == 0
        assert train.supervised_batch_size is not None
        assert train.supervised_batch_size % (machines * processes) == 0


@pytest.mark.parametrize("value", ["true", "1"])
def test_accelerates_own_sharding_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it would be DDP, without a word."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", value)
    with pytest.raises(UserError) as error:
        Process.start(Precision.fp32)
    assert str(error.value) == (
        "Expected sharding to be asked for by train.sharding=full, found a launch with Accelerate's own "
        f"(ACCELERATE_USE_FSDP={value}, as its config files with distributed_type: FSDP set it). Launch with "
        "distributed_type: MULTI_GPU, as scripts/accelerate/fsdp.yaml has it, and set train.sharding=full."
    )


def test_a_file_that_asks_for_accelerates_own_sharding_sets_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "scripts/accelerate/fsdp.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("MULTI_GPU", "FSDP") + "fsdp_config: {fsdp_version: 2}\n")
    arguments: Any = parsed(["--config_file", str(tmp_path / "own.yaml"), "-m", "uda.train"], monkeypatch)
    assert prepare_multi_gpu_env(arguments)["ACCELERATE_USE_FSDP"] == "true"
