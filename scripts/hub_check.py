"""Ask the hub whether it has what the options of `data` and `model` name; nothing but heads of files is fetched.

    make hub-check                                                   # or: python scripts/hub_check.py
    python scripts/hub_check.py yelp5 bert_large                     # some options

For a data set: the repository, its revision, the splits, the columns of text and label, the names of the labels. For an
encoder: the repository, its revision, its config, tokenizer and weights in safetensors. Where the revision is a branch,
the commit that it is now is shown, to be pinned. Exit code 0 when all is there, 1 when something is not, 2 when the hub
is out of reach or an option is none of the hub's.
"""

import sys
from collections.abc import Iterator
from typing import Any

import datasets
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from uda.config import compose, config_dir
from uda.data.locations import as_list
from uda.data.settings import Source
from uda.hub import hub_is_reachable

ENCODER_FILES = [
    {"config.json"},
    {"tokenizer.json", "vocab.txt"},
    {"model.safetensors", "model.safetensors.index.json"},
]


def hub_options(group: str) -> dict[str, Any]:
    """The options of a group whose files come from the hub, by name."""
    found = {}
    for path in sorted((config_dir() / group).glob("*.yaml")):
        needed = ["model.name_or_path=."] if group == "model" and path.stem == "local" else []
        option = compose("train", [f"{group}={path.stem}", *needed])[group]
        from_hub = option.source is Source.hub if group == "data" else not option.package and not needed
        if from_hub:
            found[path.stem] = option
    return found


def missing_of_data(data: Any) -> Iterator[str]:
    """What the hub lacks of a data option: what was expected, and what was found."""
    builder = datasets.load_dataset_builder(data.repository, data.subset, revision=data.revision)
    splits = [str(split) for split in builder.config.data_files]
    wanted = [
        split for role in ("labeled", "unlabeled", "test", "dev") if data[role] for split in as_list(data[role], role)
    ]
    yield from (f"expected the split '{split}', found {', '.join(splits)}" for split in wanted if split not in splits)
    features = builder.info.features or {}
    found = list(features)
    if not found:  # only the files tell
        stream = datasets.load_dataset(
            data.repository, data.subset, revision=data.revision, split=splits[0], streaming=True
        )
        found = list(next(iter(stream)))
    columns = [data[key] for key in ("text_column", "text_pair_column", "label_column", "id_column") if data[key]]
    yield from (f"expected the column '{name}', found {', '.join(found)}" for name in columns if name not in found)
    names = getattr(features.get(data.label_column), "names", None)
    if names is not None and data.label_names is not None and names != list(data.label_names):
        yield f"expected the labels {list(data.label_names)}, found {names}"


def missing_of_model(model: Any) -> Iterator[str]:
    """The same of a model option."""
    files = {file.rfilename for file in HfApi().model_info(model.name_or_path, revision=model.revision).siblings or []}
    for wanted in ENCODER_FILES:
        if not wanted & files:
            yield f"expected {' or '.join(sorted(wanted))}, found {', '.join(sorted(files))}"


def check(group: str, name: str, option: Any) -> list[str]:
    """Print what is known of one option; what is missing of it."""
    repository = option.repository if group == "data" else option.name_or_path
    kind = "dataset" if group == "data" else "model"
    try:
        commit = HfApi().repo_info(repository, repo_type=kind, revision=option.revision).sha
        missing = list(missing_of_data(option) if group == "data" else missing_of_model(option))
    except (HfHubHTTPError, datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        missing = [" ".join(str(error).split())]
    else:
        pin = "" if commit == option.revision else f"; {option.revision} is {commit}: pin it"
        print(f"{group}={name}: {repository}, {'all there' if not missing else 'not all there'}{pin}")
    for each in missing:
        print(f"{group}={name}: {repository} at {option.revision}: {each}", file=sys.stderr)
    return missing


def main(chosen: list[str]) -> int:
    options = {(group, name): option for group in ("data", "model") for name, option in hub_options(group).items()}
    known = {name for _, name in options}
    if unknown := [name for name in chosen if name not in known]:
        print(
            f"Expected options of data or model that come from the hub, {', '.join(sorted(known))}; found "
            f"{unknown[0]}. Correct it.",
            file=sys.stderr,
        )
        return 2
    if not hub_is_reachable():
        print(
            f"Expected the hub at {constants.ENDPOINT}, found it out of reach. Check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE; nothing was checked.",
            file=sys.stderr,
        )
        return 2
    datasets.disable_progress_bars()
    missing = [check(*key, option) for key, option in options.items() if not chosen or key[1] in chosen]
    return int(any(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
