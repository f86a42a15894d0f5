"""Pooled classifiers known to the Auto classes as soon as both `uda` and transformers are imported.

`import uda` must stay cheap, so transformers is not imported for this: a finder on `sys.meta_path` waits for the two
modules that hold the Auto classes, and registers each half right after its module ran.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


def _register_config() -> None:
    from transformers import AutoConfig

    from uda.engine.pooled_config import PooledConfig

    AutoConfig.register(PooledConfig.model_type, PooledConfig)
    PooledConfig.register_for_auto_class()


def _register_model() -> None:
    from transformers import AutoModelForSequenceClassification

    from uda.engine.pooled import PooledClassifier
    from uda.engine.pooled_config import PooledConfig

    AutoModelForSequenceClassification.register(PooledConfig, PooledClassifier)
    PooledClassifier.register_for_auto_class("AutoModelForSequenceClassification")


_WAITING = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
}


def register_when_imported() -> None:
    """Register what transformers has imported already now, and the rest when it is imported."""
    for module in list(_WAITING):
        if module in sys.modules:
            _WAITING.pop(module)()
    if _WAITING:
        sys.meta_path.insert(0, _AutoFinder())


class _AutoFinder(importlib.abc.MetaPathFinder):
    """Finds the two modules as Python would, once each."""

    _searching: str | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _WAITING or fullname == self._searching:
            return None
        self._searching = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = None
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
        _WAITING.pop(module.__name__)()
