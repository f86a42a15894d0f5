"""uda: semi-supervised text classification by consistency training."""

from uda.engine.registration import register_when_imported

__version__ = "0.1.0"

register_when_imported()
