"""Which attention kernel makes which passes."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from uda.data.batches import pad_rows
from uda.engine import step
from uda.engine.attention import Kernels, attention, fastest_kernels
from uda.engine.model import logits_of
from uda.engine.step import Models, StepOutcome, logits_by_length

CPU = torch.device("cpu")


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))


def kernel_of(model) -> str:
    return model.base_model.config._attn_implementation


def test_a_kernel_for_a_while(model) -> None:
    model.set_attn_implementation("eager")
    with attention(model, "sdpa"):
        assert kernel_of(model) == "sdpa"
    assert kernel_of(model) == "eager"
    with attention(model, "eager"):
        assert kernel_of(model) == "eager"


def test_the_plain_kernel_for_short_rows_with_a_gradient_alone(model) -> None:
    kernels = fastest_kernels(model, CPU, layers_twice=False)
    assert [kernels.of(300), kernels.of(301)] == ["eager", "sdpa"]
    with torch.no_grad():
        assert [kernels.of(300), kernels.of(301)] == ["sdpa", "sdpa"]
    assert str(kernels) == "eager (sdpa beyond 300 tokens), without a gradient sdpa"


def test_layers_that_are_computed_again_have_one_kernel(model) -> None:
    kernels = fastest_kernels(model, CPU, layers_twice=True)
    assert kernels == Kernels("eager", "eager", "sdpa")
    assert str(kernels) == "eager, without a gradient sdpa"


def test_a_gpu_and_an_encoder_without_kernels_keep_their_own(model) -> None:
    own = kernel_of(model)
    assert fastest_kernels(model, torch.device("cuda"), layers_twice=False) == Kernels(own, own, own)
    model.base_model._supports_sdpa = False
    model.set_attn_implementation("eager")
    assert fastest_kernels(model, CPU, layers_twice=False) == Kernels("eager", "eager", "eager")


@pytest.mark.parametrize("with_teacher", [False, True])
def test_each_pass_has_the_kernel_of_its_rows(model, with_teacher, monkeypatch) -> None:
    model.set_attn_implementation("eager")
    teacher = BertForSequenceClassification(model.config) if with_teacher else None
    kernels = fastest_kernels(model, CPU, layers_twice=False)
    models = Models(model, teacher, model, teacher or model, 0, kernels, compiled_length=None)
    seen = []

    def noted(passing, tokens):
        seen.append((kernel_of(passing), max(tokens.lengths)))
        return logits_of(passing, tokens)

    monkeypatch.setattr(step, "logits_of", noted)
    tokens = pad_rows([torch.arange(5, 5 + 20).repeat(size // 20).numpy() for size in (400, 20)], pad_id=0)
    logits_by_length(models, models.learning, tokens, StepOutcome())
    assert seen == [("sdpa", 400), ("eager", 20)]
    assert kernel_of(model) == "eager"
    seen.clear()
    with torch.no_grad():
        logits_by_length(models, models.teaching, tokens, StepOutcome())
    assert seen == [("sdpa", 400), ("sdpa", 20)]
