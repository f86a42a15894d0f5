"""Pooled classifiers known to the Auto classes as soon as both `uda` and transformers are imported.

`import uda` must stay cheap, so transformers is not imported for this: a finder on `sys.meta_path` waits for the
module that holds the Auto classes.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_AUTO = "transformers.models.auto.modeling_auto"


def register_when_imported() -> None:
    """Register now if transformers' Auto classes are there already, else when they are imported."""
    if _AUTO in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AutoFinder())


def _register() -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from uda.engine.pooled import PooledClassifier, PooledConfig

    AutoConfig.register(PooledConfig.model_type, PooledConfig)
    AutoModelForSequenceClassification.register(PooledConfig, PooledClassifier)
    PooledConfig.register_for_auto_class()
    PooledClassifier.register_for_auto_class("AutoModelForSequenceClassification")


class _AutoFinder(importlib.abc.MetaPathFinder):
    """Finds the module as Python would, once, and registers right after it ran."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register()
