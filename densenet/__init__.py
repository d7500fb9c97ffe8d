"""What a DenseNet is: its description, its PyTorch module, the published models.

::

    from densenet import inference_model, get_model, list_models, DenseNet, DenseNetConfig
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from densenet.config import DenseNetConfig

if TYPE_CHECKING:
    from densenet.inference import get_model, inference_model, list_models
    from densenet.model import DenseNet

__all__ = ["DenseNet", "DenseNetConfig", "get_model", "inference_model", "list_models"]

_HOMES = {"DenseNet": "model", "get_model": "inference", "inference_model": "inference", "list_models": "inference"}


def __getattr__(name: str) -> Any:
    # PyTorch and Pillow are loaded only for those who ask for them.
    if name in _HOMES:
        return getattr(import_module(f"densenet.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
