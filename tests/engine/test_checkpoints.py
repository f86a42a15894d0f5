"""Checkpoints: whole or not there, the newest kept, everything back as it was."""

import errno
import subprocess

import pytest
import torch
from torch import nn

from uda.engine import checkpoints
from uda.engine.checkpoints import (
    checkpoint_steps,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    warn_of_other_conditions,
)
from uda.errors import UserError


def test_round_trip_keeps_the_newest(tmp_path) -> None:
    for step in (5, 10, 20):
        parts = {"student": {"w": torch.full((2,), float(step))}, "best": {}}
        save_checkpoint(tmp_path, step, parts, {"best_step": step - 1}, keep=2)
    assert checkpoint_steps(tmp_path) == [10, 20]
    parts, state = load_checkpoint(tmp_path)
    assert state == {"step": 20, "best_step": 19}
    assert parts["best"] == {}
    assert torch.equal(parts["student"]["w"], torch.tensor([20.0, 20.0]))


def test_a_half_written_checkpoint_is_not_one(tmp_path) -> None:
    save_checkpoint(tmp_path, 5, {"student": {"w": torch.ones(1)}}, {}, keep=2)
    (tmp_path / ".writing-step-9").mkdir()
    (tmp_path / ".writing-step-9/student.safetensors").write_bytes(b"half")
    assert checkpoint_steps(tmp_path) == [5]
    save_checkpoint(tmp_path, 9, {"student": {"w": torch.ones(1)}}, {}, keep=2)
    assert checkpoint_steps(tmp_path) == [5, 9]
    assert [path.name for path in tmp_path.glob(".*")] == [".writing-step-9"]  # which goes when the run goes on


def test_no_checkpoint(tmp_path) -> None:
    assert load_checkpoint(tmp_path / "nowhere") is None


@pytest.fixture
def three(tmp_path):
    """Checkpoints of the steps 5, 10 and 15, whose only number is the step."""
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, step, {"student": {"w": torch.tensor(float(step))}, "best": {}}, {}, keep=3)
    return tmp_path


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["student.safetensors", "best.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(three, caplog, name, damage) -> None:
    damage(three / "step-15" / name)
    parts, state = load_checkpoint(three)
    assert (state["step"], parts["student"]["w"]) == (10, 10)
    assert f"the checkpoint {three}/step-15 is damaged (" in caplog.text
    assert "step-10" not in caplog.text


def test_the_checksums_are_those_of_sha256sum(three) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=three / "step-15", capture_output=True, text=True, check=True)
    assert done.stdout == "best.safetensors: OK\nstate.json: OK\nstudent.safetensors: OK\n"


def test_where_all_are_damaged_the_user_is_asked(three) -> None:
    for step in (5, 10, 15):
        flip(three / f"step-{step}/state.json")
    with pytest.raises(
        UserError, match=r"to go on from in .*, found all damaged: step-5, step-10, step-15 .*delete the folder"
    ):
        load_checkpoint(three)


def test_a_damaged_checkpoint_does_not_outlive_the_whole_ones_that_follow(three) -> None:
    """Its step is the highest, so it would pass for the newest, and push those out that are written after it."""
    flip(three / "step-15/state.json")
    save_checkpoint(three, 12, {"student": {"w": torch.tensor(12.0)}}, {}, keep=2)
    assert checkpoint_steps(three) == [10, 12]
    assert load_checkpoint(three)[1]["step"] == 12


def test_a_full_disk_keeps_the_checkpoints_before(three, monkeypatch) -> None:
    before = {path: path.read_bytes() for path in three.rglob("*") if path.is_file()}

    def full(tensors, path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(UserError, match=r"write .*/step-20, found: \[Errno 28\] No space left on device\. What was"):
        save_checkpoint(three, 20, {"student": {"w": torch.ones(1)}}, {}, keep=1)
    assert {path: path.read_bytes() for path in three.rglob("*") if path.is_file()} == before
    assert len(list(three.iterdir())) == 3


def test_other_conditions_are_named_and_equal_ones_are_not(caplog) -> None:
    stored = {"precision": "bf16", "num_processes": 1, "torch": "2.13.0"}
    warn_of_other_conditions(stored, dict(stored))
    assert not caplog.text
    warn_of_other_conditions(stored, {**stored, "precision": "fp32", "num_processes": 2})
    assert "not to the bit as if it had never stopped: precision was bf16, is fp32, num_processes was 1, is 2" in (
        caplog.text
    )


def test_an_optimizer_goes_on_as_if_never_stopped(tmp_path) -> None:
    def fresh():
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    def step(model, optimizer, seed):
        torch.manual_seed(seed)
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, optimizer = fresh()
    for seed in range(4):
        step(whole, optimizer, seed)
    first, optimizer = fresh()
    for seed in range(2):
        step(first, optimizer, seed)
    parts = {"student": first.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    save_checkpoint(tmp_path, 2, parts, {}, keep=1)
    second, optimizer = fresh()
    stored, _ = load_checkpoint(tmp_path)
    second.load_state_dict(stored["student"])
    restore_optimizer(optimizer, stored["optimizer"])
    for seed in (2, 3):
        step(second, optimizer, seed)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
