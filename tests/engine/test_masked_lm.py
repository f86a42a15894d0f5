"""Masked language models around any encoder: the head, what it is tied to, and what it is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from uda.engine.masked_lm import AtPlaces, load_masked_lm, unshared, weights_beside
from uda.engine.settings import ModelSettings
from uda.errors import UserError

ENCODERS = ["bert", "roberta", "distilbert", "deberta-v2", "electra", "mpnet", "modernbert"]


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_new_head_is_tied_and_asked_at_the_places_alone(kind: str, tiny_encoder: Callable[[str], Path]) -> None:
    folder = str(tiny_encoder(kind))
    model, new_head = load_masked_lm(folder, ModelSettings(folder))
    assert new_head
    output: Any = model.get_output_embeddings()
    inputs: Any = model.get_input_embeddings()
    assert output.weight is inputs.weight
    model.eval()
    ids = torch.randint(5, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    everywhere = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)
    places = torch.tensor([1, 4, 10, 20])
    found = AtPlaces(model)(places, input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(found, everywhere[places])
    kept = unshared(model)
    assert len(kept) < len(model.state_dict())
    assert {value.data_ptr() for value in kept.values()} == {one.data_ptr() for one in model.state_dict().values()}


def test_a_head_of_the_checkpoint_is_kept_and_a_pooler_goes_along(tiny_bert: Path, tmp_path: Path) -> None:
    settings = ModelSettings(str(tiny_bert))
    model, _ = load_masked_lm(str(tiny_bert), settings)
    beside = weights_beside(str(tiny_bert), settings, model)
    assert set(beside) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    model.save_pretrained(tmp_path, state_dict={**model.state_dict(), **beside})
    again, new_head = load_masked_lm(str(tmp_path), settings)
    assert not new_head
    assert torch.equal(again.cls.predictions.transform.dense.weight, model.cls.predictions.transform.dense.weight)
    encoder, original = AutoModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tiny_bert)
    for name, value in original.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name


def test_an_encoder_without_such_a_model_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    from uda.engine.model import load_classifier
    from uda.engine.settings import Pooling

    settings = ModelSettings(str(tiny_bert), pooling=Pooling.mean)
    load_classifier(str(tiny_bert), settings, ["a", "b"]).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        load_masked_lm(str(tmp_path), settings)
    assert str(error.value) == (
        "model.name_or_path: expected an encoder that transformers has a masked language model for, found a "
        f"'uda_pooled' at '{tmp_path}'. Choose one such as BERT, RoBERTa or ModernBERT; of a classifier, the encoder "
        "that it was trained from."
    )
