"""Source engines: the framework a checkpoint was made with loads it itself, and must agree with us.

That proves the conversion, not only the export.  The loading is what users of the
framework do; torchvision's and timm's own renaming of old keys is repeated here, since
their loaders take a download's name and not a file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, Unavailable, first_line
from converter.core.model import Model
from converter.engines.networks import keras_network, timm_network, torchvision_network
from converter.engines.paddle import paddle_engine
from converter.engines.run import Run
from converter.engines.tensorflow import tensorflow_engine
from converter.engines.torch import torch_engine

if TYPE_CHECKING:
    import torch


COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FRAMEWORK_OF: Mapping[str, str] = {
    "torchvision": "torchvision",
    "torchvision-legacy": "torchvision",
    "timm": "timm",
    "keras": "keras",
    "keras2": "keras",
    "paddle": "paddle",
}
"""Which framework reads a layout."""
FRAMEWORK_OF_FORMAT: Mapping[str, str] = {
    "TensorFlow SavedModel": "tensorflow",
    "TensorFlow frozen graph": "tensorflow",
    "Paddle program": "paddle",
}
"""Which one runs a format, whatever layout it is in."""
PACKAGES: Mapping[str, str] = {"paddle": "paddlepaddle"}
"""What to install, where it has another name."""


def framework_of(model: Model) -> str:
    """The framework a checkpoint comes from; empty where none is known here."""
    return FRAMEWORK_OF_FORMAT.get(model.origin.format) or FRAMEWORK_OF.get(model.origin.layout, "")


def source_engine(model: Model, path: Path, framework: str = "") -> tuple[str, Run]:
    """The framework a checkpoint comes from, or another of :data:`FRAMEWORKS`, as an engine: name and how to run it.

    Raises:
        Unavailable: it is not installed, or no framework we know reads this layout.
        ConverterError: it cannot load the file.
    """
    name = framework or framework_of(model)
    if name not in FRAMEWORKS:
        raise Unavailable(f"no framework known here reads the {model.origin.layout} layout")
    if find_spec(name) is None:
        raise Unavailable(f"{name} is not installed: pip install {PACKAGES.get(name, name)}")
    try:
        return name, FRAMEWORKS[name](model, path)
    except ConverterError:
        raise
    except Exception as error:  # whatever the framework raises
        first = COLOUR.sub("", first_line(error))
        if first.endswith(":"):  # what it lacks stands in the lines behind
            first = " ".join(COLOUR.sub("", str(error)).split())[:200]
        if "Weights only load failed" in first:
            first = "it holds more than tensors, and nothing in it is run; convert it first"
        raise ConverterError(f"{path}: {name} cannot load it ({first})") from error


def _torchvision(model: Model, path: Path) -> Run:
    network = torchvision_network(model.config)
    network.load_state_dict(_state(model, path))
    return torch_engine(network.eval())


def _timm(model: Model, path: Path) -> Run:
    network = timm_network(model.config)
    network.load_state_dict(_state(model, path))
    return torch_engine(network.eval())


def _keras(model: Model, path: Path) -> Run:
    """A whole model as it was saved, or ``keras.applications``' own with the file's weights."""
    import keras  # noqa: PLC0415 (slow to import)

    config = model.config
    try:
        saved = keras.models.load_model(path, compile=False)
    except (ValueError, OSError):  # weights alone
        network = keras_network(config)
        network.load_weights(path)
    else:
        # The same layers, for images of any size; and logits, not probabilities.
        last = saved.layers[-1]
        if config.num_classes and getattr(last, "activation", None) is keras.activations.softmax:
            last.activation = keras.activations.linear
        network = keras.models.clone_model(saved, input_tensors=keras.Input((None, None, config.in_channels)))
        network.set_weights(saved.get_weights())

    def run(x: Array) -> Array:
        try:
            output = network(np.moveaxis(x, 1, -1), training=False)
        except Exception as error:
            raise ConverterError(f"keras failed on input {list(x.shape)} ({error})") from error
        return np.asarray(keras.ops.convert_to_numpy(output), np.float32)

    return run


FRAMEWORKS: Mapping[str, Callable[[Model, Path], Run]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "keras": _keras,
    "tensorflow": tensorflow_engine,
    "paddle": paddle_engine,
}


LEGACY = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")


def _state(model: Model, path: Path) -> dict[str, torch.Tensor]:
    """The file's tensors under the framework's names, read by the framework's own means."""
    import torch  # noqa: PLC0415 (slow to import)

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 (slow to import)

        tree: Any = load_file(path)
    else:
        with warnings.catch_warnings(action="ignore"):  # of TorchScript archives
            tree = torch.load(path, map_location="cpu", weights_only=True)
    for part in filter(None, model.origin.inside.split(".")):
        tree = tree[part]
    state = {}
    for key, value in tree.items():
        name = key.removeprefix(model.origin.prefix)
        found = LEGACY.match(name)
        if key.startswith(model.origin.prefix) and key not in model.dropped:
            state[found[1] + found[2] if found else name] = value.float() if value.is_floating_point() else value
    for name in [name for name in state if name.endswith(".running_var")]:
        state.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return state
