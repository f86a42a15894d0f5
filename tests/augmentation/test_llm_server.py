"""The method against a real server: `transformers serve` with a tiny Llama of random weights, on this machine."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from uda.augmentation.llm import LanguageModel

MISSING = [name for name in ("fastapi", "uvicorn", "openai", "tenacity") if importlib.util.find_spec(name) is None]
YAML = Path(__file__).parents[2] / "configs" / "augment" / "llm.yaml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs pip install {' '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers that knows bytes and has a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    words = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    fast.chat_template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes, **special)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "server.log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            stdout=output,
            stderr=output,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        try:
            for _ in range(240):
                time.sleep(0.5)
                assert server.poll() is None, log.read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                        break
                except (urllib.error.URLError, TimeoutError):
                    continue
            else:
                pytest.fail(log.read_text())
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


def llm(address: str, model: Path, **changes: object) -> LanguageModel:
    settings = yaml.safe_load(YAML.read_text()) | {"base_url": address, "model": str(model), "max_retries": 1}
    del settings["_target_"]
    return LanguageModel(**(settings | changes))


def test_a_real_server_answers(address: str, model: Path) -> None:
    texts = ["A bad film.", "Ein schöner Film 👍", "", "Short."]
    # Random weights hardly ever end an answer: what is cut off keeps its original, and is paid for.
    augmenter = llm(address, model, max_tokens=16, prompt="{text}", refusals=[])
    assert augmenter.augment(texts, [""] * 4, 0) == texts
    prompts = sum(len(text.encode()) for text in texts)
    assert prompts < augmenter._used <= prompts + 3 * (16 + 2)  # a token a byte, and a few special ones
    assert sum(augmenter._outcomes.values()) == 3
    assert set(augmenter._outcomes) <= {"cut off", "paraphrased", "empty"}
