"""The objects that config nodes describe: objectives, augmentations."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from uda.errors import UserError, did_you_mean

# The keys of `augment` that every method has; none of them changes a text.
COMMON_KEYS = ("num_copies", "num_workers", "cache_dir", "shard", "num_shards")


def build(node: dict[str, Any], group: str, **arguments: Any) -> Any:
    """The object that a config node describes; a misspelt key is named."""
    if "_target_" not in node:
        raise UserError(f"{group}: expected a class to build, found no {group}._target_. Choose an option: {group}=….")
    try:
        return instantiate(node, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError):
            known = parameter_names(get_object(node["_target_"]))
            given = [key for key in node if not key.startswith("_")]
            unknown = [key for key in given if key not in known]
            required = [key for key in known if key not in given and key not in arguments]
            if unknown:
                raise UserError(
                    f"{group}.{unknown[0]}: expected a key of {node['_target_']} ({', '.join(known)}), found "
                    f"'{unknown[0]}'.{did_you_mean(unknown[0], known)} Correct or remove it."
                ) from None
            if required:
                raise UserError(
                    f"{group}: expected all keys of {node['_target_']}, found none for {', '.join(required)}. Set them."
                ) from None
        reason = str(error).split(", set env var")[0]
        where = " (of a module of your own: the folder that PYTHONPATH has to name)" * reason.startswith("Error loc")
        raise UserError(
            f"{group}: expected a class that can be built, found: {reason}. Check {group}._target_{where} and the "
            f"types of the other values of {group}."
        ) from error


def parameter_names(built: Callable[..., Any]) -> list[str]:
    """What a class is built with: its parameters, those it passes on as `**options: Unpack[...]` by name."""
    names = []
    for name, parameter in inspect.signature(built).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names += [key for options in get_args(parameter.annotation) for key in get_type_hints(options)]
        else:
            names.append(name)
    return names


def build_augmenter(node: dict[str, Any], lowercase: bool) -> Any:
    """The augmentation that a config node describes; `lowercase` is for those that leave it to the tokenizer.

    The methods that a combination is made of (`methods`) are built like it, and their messages name their keys.
    """
    arguments = {key: value for key, value in node.items() if key not in (*COMMON_KEYS, "methods")}
    if arguments.get("lowercase", True) is None:
        arguments["lowercase"] = lowercase
    with suppress(ImportError, KeyError, ValueError):  # no class: `build` says so
        if "num_workers" in inspect.signature(get_object(node["_target_"])).parameters:
            arguments["num_workers"] = node.get("num_workers")
    if "methods" not in node:
        return build({**arguments, "_convert_": "all"}, "augment")
    if not isinstance(node["methods"], dict) or not all(
        isinstance(member, dict) for member in node["methods"].values()
    ):
        raise UserError(
            f"augment.methods: expected methods by name, found {node['methods']!r}. Write them as augment=mix does."
        )
    methods = {}
    for name, member in node["methods"].items():
        try:
            methods[name] = build_augmenter({**member, "num_workers": node.get("num_workers")}, lowercase)
        except UserError as error:
            raise UserError(str(error).replace("augment.", f"augment.methods.{name}.")) from None
    return build({**arguments, "_convert_": "all"}, "augment", methods=methods)


def deciding(node: dict[str, Any]) -> dict[str, Any]:
    """What of an augmentation's config decides results: without the keys that every method has, and without those that
    its class calls free.
    """
    free = (*COMMON_KEYS, *get_object(node["_target_"]).free_settings)
    kept = {key: value for key, value in node.items() if key not in free}
    if "methods" in kept:
        kept["methods"] = {name: deciding(member) for name, member in kept["methods"].items()}
    return kept
