"""Overrides as they are typed: read literally where need be, and one message for what does not fit the config."""

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from uda.config import config_dir
from uda.errors import did_you_mean

_EXTRA = {
    "hydra/launcher": ("joblib", "submitit_local", "submitit_slurm"),
    "hydra/sweeper": ("optuna",),
}  # what the extra `sweep` installs
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list such as [a, b]",
    dict: "keys and values such as {key: value}",
}


def taken_literally(argument: str) -> str:
    """An override of the command line whose value Hydra's grammar cannot read, such as a path with `=` or an umlaut,
    with that value in quotes; all others as they are.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or not value or value[0] in "[{":
        return argument
    parser = OverridesParser.create()
    try:
        parser.parse_override(argument)
    except HydraException:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        quoted = f"{key}='{quoted}'"
        try:
            parser.parse_override(quoted)
        except HydraException:
            return argument  # the key is at fault
        return quoted
    return argument


def explain(error: Exception, schema: type) -> str:
    """One message for an error in composing the config."""
    text = " ".join(str(error).split())
    cause = error.__cause__
    detail = " ".join(str(cause).split("\n    full_key")[0].split()) if cause is not None else ""
    if match := re.search(r"Could not override '([^']+)'", text):
        key, known = match[1], known_keys(schema)
        if key in ("experiment", "sweep"):
            return f"{key}: expected it with a plus, since it is added to the config. Write +{key}=NAME."
        reason = f" ({detail})" if detail and "is not in struct" not in detail else ""  # OmegaConf's for "no such key"
        group, _, name = key.partition(".")
        others = [f"{group}={option}" for option, keys in _keys_of_options(group).items() if name in keys]
        near = f" It is a key of {', '.join(others)}." if others and key in known else did_you_mean(key, known)
        return (
            f"Expected a key and a value that the config has, found '{key}'{reason}.{near} See all keys with --cfg job."
        )
    if match := re.match(r"Error merging override [+]*([\w.]+)=(.*)$", text):
        key, value = match[1], match[2].strip("'")
        wanted, values = _wanted(schema, key)
        return (
            f"{key}: expected {wanted}, found '{value}'.{did_you_mean(value, values)} Set {key} to such a value, or "
            "leave it out."
        )
    found = r"Could not find '([^']+)/([^'/]+)' Available options in '[^']+': (.*?)(?: Config search|$)"
    if match := re.search(found, text):
        group, name, options = match.groups()
        choices = options.split()
        if name in _EXTRA.get(group, ()):
            return (
                f"{group}={name}: expected it to be installed, found only {', '.join(choices)}. Install the extra that "
                "brings it: pip install 'uda[sweep]'."
            )
        return (
            f"{group}={name}: expected one of {', '.join(choices)}, found '{name}'.{did_you_mean(name, choices)} "
            f"Choose one of them."
        )
    if "Only one of --run" in text:
        return (
            "Expected at most one of --multirun (-m), --run, --cfg, --info and --shell_completion, found several. To "
            "see the config of a sweep's job, leave out -m and give one value for each key."
        )
    if "Unexpected type for root: NoneType" in text:
        return (
            "data: expected a group before its keys are set, found data=null, the run's own test rows. Add a group: "
            "data=files data.test=FILE."
        )
    return _general(text + (f" ({detail})" if detail and detail not in text else ""))


def _general(reason: str) -> str:
    """A message for what we have no words of our own for."""
    return (
        f"The configuration does not fit: expected overrides such as group=option or key=value, found: {reason}. "
        "Correct the command line: --help names the groups and their options, --cfg job all keys. Values with special "
        """characters go in two pairs of quotes: 'key="value"', and in a list 'key=["one","two"]'."""
    )


def _wanted(schema: Any, key: str) -> tuple[str, list[str]]:
    """What a key of a schema takes, in words, and the values among which one can choose, if so."""
    kind = schema
    for part in key.split("."):
        nested = next((option for option in (kind, *get_args(kind)) if is_dataclass(option)), None)
        if nested is None:  # a key of a dictionary
            return "keys and values such as {key: value}", []
        kind = get_type_hints(nested)[part]
    options = [option for option in get_args(kind) if option is not type(None)] if type(None) in get_args(kind) else []
    null = " or null" if options else ""
    kind = options[0] if options else kind
    if isinstance(kind, type) and issubclass(kind, Enum):
        names = [option.name for option in kind]
        return f"one of {', '.join(names)}{null}", names
    return _KINDS.get(get_origin(kind) or kind, "another kind of value") + null, []


def known_keys(schema: Any, prefix: str = "") -> list[str]:
    """All keys of a schema, dotted; of a node that describes a class, those of the yaml files of its group."""
    keys: list[str] = []
    hints = get_type_hints(schema)
    for entry in fields(schema):
        kind, key = hints[entry.name], f"{prefix}{entry.name}"
        nested = next((option for option in (kind, *get_args(kind)) if is_dataclass(option)), None)
        if nested:
            keys += known_keys(nested, f"{key}.")
        else:
            keys += [key, *sorted(f"{key}.{name}" for name in _keys_of_files(entry.name))] if not prefix else [key]
    return keys


def _keys_of_files(group: str) -> set[str]:
    """The keys that the yaml files of a group have, and those that all its options share, which job.yaml has."""
    shared = yaml.safe_load((config_dir() / "job.yaml").read_text()).get(group)
    found = set(shared) if isinstance(shared, dict) else set()
    return found.union(*_keys_of_options(group).values())


def _keys_of_options(group: str) -> dict[str, set[str]]:
    """The keys of each option of a group, with those of the options that its yaml file begins with."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((config_dir() / group).glob("*.yaml"))}

    def keys(name: str) -> set[str]:
        begun = [entry for entry in files[name].get("defaults", []) if isinstance(entry, str) and entry in files]
        return (set(files[name]) - {"defaults"}).union(*map(keys, begun))

    return {name: keys(name) for name in files}
