"""Networks as torchvision, timm and Keras build them, with weights of their own making until some are loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from converter.core.errors import Unavailable, first_line
from converter.engines.timm_model import timm_model
from densenet.config import DenseNetConfig

BLOCKS = 4
"""Of Keras' networks, whatever layers they have."""


def torchvision_network(config: DenseNetConfig) -> Any:
    """``torchvision.models.DenseNet``; on images of other than three channels as those have it who train it on them.

    Raises:
        Unavailable: torchvision is not installed, or has no such network.
    """
    check_installed("torchvision")
    import torch  # noqa: PLC0415 (slow to import)

    with compiler_when_called():
        from torchvision.models import DenseNet  # noqa: PLC0415 (slow to import)

    known = ("growth_rate", "block_config", "init_features", "bn_size", "num_classes", "in_channels")
    _plain(config, "torchvision", known)
    network = DenseNet(
        config.growth_rate,
        config.block_config,
        config.init_features,
        config.bn_size,
        num_classes=config.num_classes,
    )
    if config.in_channels != 3:
        network.features.conv0 = torch.nn.Conv2d(config.in_channels, config.init_features, 7, 2, 3, bias=False)
    return network


def timm_network(config: DenseNetConfig) -> Any:
    """``timm.create_model(...)``.

    Raises:
        Unavailable: timm is not installed, or has no DenseNet with that eps.
        CannotExpress: it has no such network.
    """
    check_installed("timm")
    import timm  # noqa: PLC0415 (slow to import)

    if config.eps != DenseNetConfig.eps:
        raise Unavailable(f"timm has no DenseNet with eps {config.eps:g}")
    wanted = timm_model(config)
    return timm.create_model(wanted.architecture, num_classes=config.num_classes, **wanted.arguments)


def keras_network(config: DenseNetConfig) -> Any:
    """``keras.applications``' network of those blocks, for images of any size; its logits, or pooled features.

    Raises:
        Unavailable: Keras is not installed, or cannot be imported, or has no such network.
    """
    _plain(config, "keras", ("block_config", "num_classes", "eps"))
    if len(config.block_config) != BLOCKS:
        raise Unavailable(f"keras has no DenseNet of {len(config.block_config)} blocks")
    check_installed("keras")
    try:
        import keras  # noqa: PLC0415 (slow to import)
    except ImportError as error:  # its backend is missing
        raise Unavailable(
            f"keras cannot be imported ({first_line(error)}); KERAS_BACKEND says on what it runs"
        ) from error
    image = keras.Input((None, None, config.in_channels))
    # the module of the three that have names builds any depth (keras/src/applications/densenet.py)
    network = sys.modules[keras.applications.DenseNet121.__module__].DenseNet(
        list(config.block_config),
        include_top=bool(config.num_classes),
        weights=None,
        input_tensor=image,
        pooling=None if config.num_classes else "avg",
        classes=config.num_classes or 1000,
        classifier_activation=None,
    )
    return keras.Model(image, network.outputs[0], name=network.name)  # of one input, not of a list of one


COMPILER = "torch._dynamo.utils"


@contextmanager
def compiler_when_called() -> Iterator[None]:
    """While torchvision is imported, PyTorch's compiler is not: nine tenths of the time, for what no DenseNet uses.

    torchvision/ops/roi_align.py takes one function from there, and calls it when it pools regions.  What it is given
    imports the compiler then; asked for anything else, so does what stands in the compiler's place.
    """
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        yield
        return

    def whole() -> Any:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]
        return import_module(COMPILER)

    def is_compile_supported(device_type: Any) -> Any:
        return whole().is_compile_supported(device_type)

    def other(name: str) -> Any:
        if name.startswith("__"):  # asked for by the import itself
            raise AttributeError(name)
        return getattr(whole(), name)

    stand_in: Any = ModuleType(COMPILER)
    stand_in.is_compile_supported = is_compile_supported
    stand_in.__getattr__ = other
    sys.modules[COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(COMPILER) is stand_in:
            del sys.modules[COMPILER]


def check_installed(framework: str) -> None:
    """Refuse what cannot be imported.

    Raises:
        Unavailable: it is not installed.
    """
    if find_spec(framework) is None:
        raise Unavailable(f"{framework} is not installed: pip install {framework}")


def _plain(config: DenseNetConfig, framework: str, fields: tuple[str, ...]) -> None:
    """Refuse a network whose other fields are not the framework's own."""
    usual = DenseNetConfig().to_dict()
    beyond = [k for k, v in config.to_dict().items() if k not in fields and v != usual.get(k)]
    if beyond:
        raise Unavailable(f"{framework} has no DenseNet with {beyond[0]} {getattr(config, beyond[0])}")
