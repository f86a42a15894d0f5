"""The method against a real server: `transformers serve` with a tiny Llama of random weights, on this machine."""

import importlib.util
import json
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

from uda.augmentation.base import text_generator
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
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes, **special))
    llama.generation_config.do_sample = True  # otherwise the server heeds no temperature and no seed
    llama.save_pretrained(folder)
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
            for _ in range(600):
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


def asked(address: str, model: Path, text: str, seed: int) -> tuple[str, str, int]:
    """Answer, reason of its end and tokens, by a request that is none of ours."""
    body = {"model": str(model), "messages": [{"role": "user", "content": text}], "max_tokens": 16, "seed": seed}
    data = json.dumps({**body, "temperature": 0.9}).encode()
    request = urllib.request.Request(f"{address}/chat/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"]["total_tokens"]


def test_a_real_server_answers(address: str, model: Path) -> None:
    texts = [f"Film {number}, schön 👍" for number in range(12)]
    augmenter = llm(address, model, max_tokens=16, prompt="{text}", refusals=[], concurrency=1)
    results = augmenter.augment([*texts, ""], [""] * 13, 1)
    expected, tokens = [], 0
    for text in texts:
        seed = int(text_generator(0, 1, text).integers(2**31))
        answer, reason, used = asked(address, model, text, seed)
        expected.append(answer.strip() if reason == "stop" and answer.strip() else text)
        tokens += used
    assert results == [*expected, ""]
    assert augmenter._used == tokens
    assert sum(augmenter._outcomes.values()) == 12
    # Random weights end hardly any answer within 16 tokens: what is cut off keeps its original, and is paid for.
    assert (
        augmenter._outcomes["cut off"] == sum(result == text for result, text in zip(results, texts, strict=False)) > 0
    )


def test_requests_at_once(address: str, model: Path) -> None:
    texts = [f"text {number}" for number in range(16)]
    augmenter = llm(address, model, max_tokens=4, concurrency=8)
    assert len(augmenter.augment(texts, [""] * 16, 0)) == 16
    assert sum(augmenter._outcomes.values()) == 16
