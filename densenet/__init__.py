"""What a DenseNet is: its description, its PyTorch module, the published models.

::

    from densenet import inference_model, get_model, list_models, DenseNet, DenseNetConfig
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from densenet.config import DenseNetConfig

if TYPE_CHECKING:
    from densenet.model import DenseNet, MultiHeadDenseNet

__all__ = ["DenseNet", "DenseNetConfig", "MultiHeadDenseNet", "get_model", "inference_model", "list_models"]


def __getattr__(name: str) -> Any:
    # PyTorch and Pillow are loaded only for those who ask for them.
    if name in ("DenseNet", "MultiHeadDenseNet"):
        return getattr(import_module("densenet.model"), name)
    if name in __all__:
        return getattr(import_module("densenet.inference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
