"""Imports point one way, and a command imports only what it uses."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import uda

ROOT = Path(uda.__file__).parent

# What each room may import of the house; `settings` modules are plain dataclasses that the config is typed with.
ALLOWED = {
    "objectives": {"objectives", "errors"},
    "augmentation": {"augmentation", "errors", "files", "hub", "hardware"},
    "data": {"data", "errors", "packages", "hub", "files"},
    "engine": {"engine", "data", "objectives", "errors", "packages", "hub", "files", "hardware"},
    "reporting": {"reporting", "errors"},
    "errors.py": set(),
    "hardware.py": set(),
    "instances.py": {"errors"},
    "packages.py": {"errors"},
    "hub.py": set(),
    "files.py": {"errors"},
    "locks.py": {"errors"},
    "run_directory.py": {"errors", "files", "locks"},
}
CONFIG_READERS = {
    "choices.py",
    "config.py",
    "cli.py",
    "build.py",
    "finish.py",
    "stored.py",
    "calibrate.py",
    "checks.py",
    "sweeps.py",
    "overrides.py",
    "train.py",
    "adapt.py",
    "adapting.py",
    "hparams.py",
    "augment.py",
    "evaluate.py",
    "predict.py",
    "filter.py",
    "row_files.py",
    "judging.py",
    "report.py",
}


def imported(path: Path) -> set[str]:
    """The rooms of `uda` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "uda" else [f"uda.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("uda.")}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_point_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py")) if not room.endswith(".py") else [ROOT / room]
    assert files
    for path in files:
        assert imported(path) <= ALLOWED[room], path


def test_only_the_commands_know_the_config() -> None:
    readers = {path.name for path in ROOT.rglob("*.py") if "config" in imported(path)}
    assert readers <= CONFIG_READERS
    texts = {path.name: path.read_text() for path in ROOT.rglob("*.py")}
    hydra = {name for name, text in texts.items() if "import hydra" in text or "from hydra" in text}
    assert hydra <= {"config.py", "cli.py", "instances.py", "overrides.py", "sweeps.py"}


def test_every_public_name_says_what_it_is() -> None:
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or path.name == "__init__.py", path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


@pytest.mark.parametrize(
    "statement",
    [
        "import uda",
        "import uda.train",
        "import uda.augment",
        "import uda.adapt",
        "import uda.evaluate",
        "import uda.predict",
        "import uda.filter",
        "import uda.judging",
        "import uda.report",
        "from uda.config import compose",
    ],
)
def test_heavy_packages_wait_until_they_are_used(statement: str) -> None:
    heavy = ["torch", "transformers", "datasets", "pandas", "sklearn", "accelerate", "tensorboard", "matplotlib"]
    code = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import uda, transformers", "import transformers.models.auto.modeling_auto, uda"])
def test_pooled_models_are_registered_whichever_is_imported_first(first: str) -> None:
    code = f"{first}; from transformers import AutoConfig; print(type(AutoConfig.for_model('uda_pooled')).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "PooledConfig"
