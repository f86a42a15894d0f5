"""The work of a pass, against torch's own counter of operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertForSequenceClassification

from uda.engine.flops import measured_limit, pass_cost
from uda.engine.settings import Precision


def test_a_pass_costs_what_torch_counts() -> None:
    """No padding, no pooler; the plain kernel, whose two products a layer the counter sees."""
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24)
    model = BertModel._from_config(config, attn_implementation="eager", add_pooling_layer=False)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(5, 11, dtype=torch.int64))
    assert pass_cost(model).flops(5 * 11, 5 * 11**2) == counter.get_total_flops()


def test_other_names_for_the_same_sizes() -> None:
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    cost = pass_cost(DistilBertForSequenceClassification(config))
    assert cost.per_token == 2 * 2 * (4 * 16 * 16 + 2 * 16 * 24)
    assert cost.per_square == 4 * 16 * 2


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_the_limit_is_what_a_product_takes(monkeypatch, precision: Precision) -> None:
    """Of products of 3, 2 and 4 s after a first one of 9, the one of 2 s."""
    clock = iter([0.0, 9.0, 10.0, 13.0, 20.0, 22.0, 30.0, 34.0])
    monkeypatch.setattr("uda.engine.flops.time.perf_counter", lambda: next(clock))
    assert measured_limit(torch.device("cpu"), precision, repeats=3) == 2 * 4096 * 1024 * 2048 / 2.0
