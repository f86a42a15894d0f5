"""docs/configuration.md against the dataclasses of the config."""

import re
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from uda.data.settings import DataSettings
from uda.engine.settings import ModelSettings

PAGE = Path(__file__).parents[1] / "docs/configuration.md"


def default(field: "Field[Any]") -> Any:
    """What the field is unless set, as YAML has it; None too where it has to be set."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value is MISSING:
        return None
    return value.value if isinstance(value, Enum) else value


@pytest.mark.parametrize(("group", "settings"), [("data", DataSettings), ("model", ModelSettings)])
def test_the_page_has_every_key_with_its_default(group: str, settings: type) -> None:
    rows = re.findall(rf"^\| `{group}\.(\w+)` \| (.*?) ?\| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    found = [(key, yaml.safe_load(value.strip("`"))) for key, value, _ in rows]
    assert found == [(field.name, default(field)) for field in fields(settings)]
