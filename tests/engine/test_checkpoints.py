"""Checkpoints: whole or not there, the newest kept, everything back as it was."""

import torch
from torch import nn

from uda.engine.checkpoints import (
    checkpoint_steps,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


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
    assert not list(tmp_path.glob(".writing*"))


def test_no_checkpoint(tmp_path) -> None:
    assert load_checkpoint(tmp_path / "nowhere") is None


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
