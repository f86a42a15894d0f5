"""The benchmark of BERT on a GPU, on the CPU with a small one."""

from collections.abc import Callable
from types import ModuleType

import pytest
from transformers import BertConfig

SMALL = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [[], ["train=gpu_11gb", "train.precision=fp32"]])
def test_its_recipe_trains_random_weights(script: Callable[[str], ModuleType], overrides: list[str]) -> None:
    found = script("benchmark_gpu").measure([*overrides, "data.num_test=10"], 3, SMALL)
    assert found["tokens_per_second"] > 0
    assert found["utilization"] > 0
