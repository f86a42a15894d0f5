"""The rows and the encoder of an adaptation, and what it leaves behind."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from uda.config import AdaptConfig
from uda.data.masking import Corpus, Masker
from uda.data.splits import Split
from uda.engine import export
from uda.engine.adaptation import Adaptation, AdaptProgress
from uda.engine.attention import fastest_kernels
from uda.engine.card import AdaptedFacts, adapted_card
from uda.engine.locations import encoder_name, own_folder
from uda.engine.masked_lm import AtPlaces, weights_beside
from uda.engine.model import enable_gradient_checkpointing, move
from uda.engine.process import Process
from uda.errors import UserError
from uda.finish import source_name
from uda.views import original_tokens, tokens_of_rows

log = logging.getLogger(__name__)

_HELD_OUT_PART = 10  # of so many texts at most one is held out
_MANY_PASSES = 20  # over the texts


def check_texts(settings: AdaptConfig, split: Split) -> int:
    """How many of the unlabelled texts are held out. Raises UserError where there are too few to train on."""
    count = min(settings.adapt.num_held_out, len(split.unlabeled) // _HELD_OUT_PART)
    if not count:
        raise UserError(
            f"Expected at least {_HELD_OUT_PART} unlabelled texts to adapt to, of which one is held out, found "
            f"{len(split.unlabeled)}. Set data.unlabeled, or lower data.num_labeled so that rows are left over."
        )
    return count


def build_adaptation(
    settings: AdaptConfig,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    masker: Masker,
    model: PreTrainedModel,
    process: Process,
    folder: Path,
) -> Adaptation:
    """Texts and model, ready for the loop.

    The corpus are the unlabelled texts but for the held-out ones, those of the lowest hashes, and their like; then the
    labelled texts that are none of these.
    """
    data, adapt = settings.data, settings.adapt
    held_out = split.unlabeled.lowest(check_texts(settings, split))
    numbers = split.unlabeled.numbers_without({*held_out.folded, *split.labeled.folded})
    labeled = np.flatnonzero(~split.labeled.folded.isin(set(held_out.folded)))
    numbers = np.concatenate([numbers, labeled.astype(np.int32) + len(split.unlabeled)])
    if len(numbers) < adapt.batch_size:
        raise UserError(
            f"Expected at least the texts of one step to adapt to (adapt.batch_size={adapt.batch_size}), found "
            f"{len(numbers)} beside the {len(held_out)} that are held out. Give more in data.unlabeled, or lower "
            "adapt.batch_size."
        )
    passes = adapt.num_steps * adapt.batch_size / len(numbers)
    if passes > _MANY_PASSES:
        log.warning(
            "adapt.num_steps=%d pass each of the %d texts %.0f times: the encoder may learn them by heart. Compare the "
            "held-out perplexities along the way (adapt.eval_every), and lower adapt.num_steps where they rise",
            adapt.num_steps,
            len(numbers),
            passes,
        )
    stores = [original_tokens(split.unlabeled, tokenizer, data), tokens_of_rows(split.labeled, tokenizer, data)]
    pad_id = tokenizer.pad_token_id
    corpus = Corpus(stores, numbers, masker, pad_id)
    measured = Corpus(stores[:1], held_out.index.to_numpy(), masker, pad_id)
    move(model, process.device)
    kernels = None
    if settings.model.attention is None:
        kernels = fastest_kernels(model, process.device, settings.train.gradient_checkpointing)
        model.set_attn_implementation(kernels.short)
    if settings.train.gradient_checkpointing:
        enable_gradient_checkpointing(model)
    process.meet()  # filling caches takes any time on one of them; from here on they answer each other
    passes_of = AtPlaces(model)
    learning = process.accelerator.prepare_model(passes_of)
    return Adaptation(
        passes_of, learning, kernels, corpus, measured, adapt, settings.train, settings.seed, process, folder
    )


def finish(
    settings: AdaptConfig,
    run: Adaptation,
    progress: AdaptProgress,
    tokenizer: PreTrainedTokenizerBase,
    location: str,
    new_head: bool,
    setup_seconds: float,
) -> dict[str, Any]:
    """Export the model; what metrics.json, which comes last, holds."""
    started, process = time.monotonic(), run.process
    before, after = progress.evaluations[0], progress.evaluations[-1]
    num_tokens = int(process.gather_rows(np.array([progress.num_tokens])).sum())
    if process.is_main:
        beside = weights_beside(location, settings.model, run.model)
        card = adapted_card(_facts(settings, run, progress, new_head))
        export.export_model(run.folder / "model", run.model, tokenizer, card, beside)
    metrics = {
        "status": "finished",
        "before": before,
        "after": after,
        "evaluations": progress.evaluations,
        "num_texts": len(run.corpus),
        "num_held_out": len(run.held_out),
        "new_head": new_head,
        "num_steps": run.settings.num_steps,
        "training_seconds": progress.seconds,
        "seconds": setup_seconds + progress.seconds + time.monotonic() - started,
        "tokens_per_second": num_tokens / max(progress.seconds, 1e-9),
        "seed": settings.seed,
        "precision": process.precision.value,
        "num_processes": process.count,
        **export.environment(process.device),
    }
    if process.is_main:
        export.write_json(run.folder / "metrics.json", metrics)
    return metrics


def _facts(settings: AdaptConfig, run: Adaptation, progress: AdaptProgress, new_head: bool) -> AdaptedFacts:
    data, model, adapt = settings.data, settings.model, settings.adapt
    on_hub = model.package is None and own_folder(model) is None
    files = [str(one) for role in (data.unlabeled, data.labeled) if role is not None for one in np.atleast_1d(role)]
    files = list(dict.fromkeys(files))  # unlabelled rows may be the rest of the labelled ones
    return AdaptedFacts(
        encoder=encoder_name(model),
        base_model=model.name_or_path if on_hub else None,
        data=source_name(data, files),
        num_texts=len(run.corpus),
        num_steps=adapt.num_steps,
        mask_share=adapt.mask_share,
        whole_words=adapt.whole_words,
        num_held_out=len(run.held_out),
        before=progress.evaluations[0]["perplexity"],
        after=progress.evaluations[-1]["perplexity"],
        new_head=new_head,
        repeat="python -m uda.adapt --config-dir RUN_DIRECTORY --config-name config hydra.run.dir=NEW_FOLDER",
    )
