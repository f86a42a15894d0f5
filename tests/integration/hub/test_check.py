"""`make hub-check`, asked of the stand-in."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uda.config import config_dir


def hub_check(*options: str, env: dict[str, str]) -> tuple[int, list[str], str]:
    """Exit code, sorted lines and errors of `make hub-check`."""
    done = subprocess.run(
        [sys.executable, str(config_dir().parent / "scripts/hub_check.py"), *options],
        capture_output=True,
        text=True,
        env=env,
    )
    return done.returncode, sorted(done.stdout.splitlines()), done.stderr


@pytest.mark.slow
def test_hub_check_finds_all(hub: Any, tmp_path: Path) -> None:
    code, lines, errors = hub_check(env=hub.variables(tmp_path))
    assert (code, errors) == (0, "")
    amazon = "yassiracharki/Amazon_Reviews_for_Sentiment_Analysis_fine_grained_5_classes"
    pin = f"; main is {'0' * 40}: pin it"
    assert f"data=amazon5: {amazon}, all there{pin}" in lines
    assert "data=imdb_hub_512: stanfordnlp/imdb, all there" in lines
    checked = {line.partition(":")[0] for line in lines}
    assert checked == {
        *(f"data={name}" for name in ("amazon2", "amazon5", "dbpedia", "imdb_hub", "imdb_hub_512", "yelp2", "yelp5")),
        *(f"data=usb_{name}" for name in ("ag_news", "amazon", "imdb", "yahoo", "yelp")),
        *("model=bert_base", "model=bert_large"),
    }


@pytest.mark.slow
def test_hub_check_names_what_is_missing(hub: Any, tmp_path: Path) -> None:
    readme = hub.folder / "datasets/Yelp/yelp_review_full/README.md"
    weights = hub.folder / "models/google-bert/bert-large-uncased/model.safetensors"
    before = readme.read_text(), weights.read_bytes()
    readme.write_text(before[0].replace("2 star\n", "2 stars\n").replace("name: text", "name: review"))
    weights.unlink()
    try:
        code, lines, errors = hub_check("yelp5", "bert_large", "bert_base", env=hub.variables(tmp_path))
    finally:
        readme.write_text(before[0])
        weights.write_bytes(before[1])
    assert code == 1
    assert lines == [
        "data=yelp5: Yelp/yelp_review_full, not all there",
        "model=bert_base: google-bert/bert-base-uncased, all there",
        "model=bert_large: google-bert/bert-large-uncased, not all there",
    ]
    stars = hub.datasets["Yelp/yelp_review_full"].label_names
    yelp = "data=yelp5: Yelp/yelp_review_full at c1f9ee939b7d05667af864ee1cb066393154bf85: expected the "
    bert = "model=bert_large: google-bert/bert-large-uncased at 6da4b6a26a1877e173fca3225479512db81a5e5b: expected "
    assert errors.splitlines() == [
        f"{yelp}column 'text', found label, review",
        f"{yelp}labels {stars}, found {[stars[0], '2 stars', *stars[2:]]}",
        f"{bert}model.safetensors or model.safetensors.index.json, found config.json, tokenizer.json, "
        "tokenizer_config.json",
    ]


@pytest.mark.slow
def test_hub_check_without_the_hub(hub: Any, tmp_path: Path) -> None:
    closed = hub.variables(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert hub_check(env=closed) == (
        2,
        [],
        "Expected the hub at http://127.0.0.1:9, found it out of reach. Check the network, HF_ENDPOINT and "
        "HF_HUB_OFFLINE; nothing was checked.\n",
    )
    code, lines, errors = hub_check("imdb", env=closed)
    assert (code, lines) == (2, [])
    assert errors.startswith("Expected options of data or model that come from the hub, amazon2, amazon5, bert_base, ")
    assert errors.endswith("yelp2, yelp5; found imdb. Correct it.\n")
