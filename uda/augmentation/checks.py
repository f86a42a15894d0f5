"""Checks of settings that several methods have; each raises UserError."""

from collections.abc import Collection
from typing import Any

from uda.errors import UserError


def check_whole(key: str, value: Any, at_least: int, example: int) -> None:
    """Refuse what is no whole number of at least `at_least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise UserError(f"{key}: expected a whole number of at least {at_least}, found {value!r}. Set {key}={example}.")


def check_positive(key: str, value: Any, example: float) -> None:
    """Refuse what is no number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise UserError(f"{key}: expected a number above 0, found {value!r}. Set {key}={example}.")


def check_choice(key: str, value: Any, choices: Collection[str], condition: str = "") -> None:
    """Refuse what is not among the choices; `condition` says when these are the choices."""
    if value not in choices:
        raise UserError(
            f"{key}: expected one of {', '.join(choices)}{condition}, found {value!r}. Set {key} to one of them."
        )
