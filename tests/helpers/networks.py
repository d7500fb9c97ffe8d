"""Small random DenseNets in the library layout: as arrays, as models, in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st

from converter.core.checkpoint import Tensor
from converter.core.model import Images, Model, Origin
from converter.exporters.onnx import to_onnx
from converter.layouts import layout_named
from converter.writing.convert import write
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig
from densenet.head import ACTIVATIONS, Head
from densenet.module import COUNTER
from densenet.preprocess import Preprocess

SMALL = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2, 1), init_features=6, bn_size=2, num_classes=5)
CIFAR = DenseNetConfig(
    growth_rate=4, block_config=(2, 2, 2), init_features=6, bottleneck=False, stem="cifar", compression=1, num_classes=5
)
TIMM = DenseNetConfig(growth_rate=8, block_config=(2, 1, 2), init_features=16, num_classes=5)
"""A network timm can build."""


@st.composite
def imagenet_configs(draw: st.DrawFn) -> DenseNetConfig:
    """Bottleneck networks with the 7x7 stem, small enough to make hundreds of them."""
    return DenseNetConfig(
        growth_rate=draw(st.integers(2, 5)),
        block_config=tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))),
        init_features=draw(st.integers(4, 9)),
        bn_size=draw(st.integers(1, 4)),
        num_classes=draw(st.integers(1, 7)),
        in_channels=draw(st.sampled_from((1, 3))),
    )


@st.composite
def heads(draw: st.DrawFn) -> tuple[str, ...]:
    """Layers between the pooled features and the classifier."""
    linear = st.builds("linear:{}{}".format, st.integers(1, 8), st.sampled_from(("", ":no_bias")))
    words = st.one_of(linear, st.just("norm"), st.sampled_from((*ACTIVATIONS, "leaky_relu:0.3", "elu:0.5")))
    return tuple(draw(st.lists(words, max_size=5)))


@st.composite
def several_heads(draw: st.DrawFn) -> tuple[Head, ...]:
    """Two to four heads of any layers, of which one may be called like a method of nn.Module."""
    names = draw(st.lists(st.sampled_from(("age", "sex", "type", "0", "view-point")), min_size=2, unique=True))
    return tuple(Head(name, draw(st.integers(1, 4)), draw(heads())) for name in names)


@st.composite
def any_configs(draw: st.DrawFn) -> DenseNetConfig:
    """Networks of every kind, of every size that is small."""
    stem = draw(st.sampled_from(("imagenet", "cifar", "deep")))
    classes = draw(st.integers(0, 5))
    return DenseNetConfig(
        growth_rate=draw(st.integers(1, 6)),
        block_config=tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))),
        init_features=draw(st.integers(4, 12)),
        bottleneck=draw(st.booleans()),
        bn_size=draw(st.integers(1, 4)),
        compression=draw(st.sampled_from((0.5, 0.7, 1.0))),
        stem=stem,
        stem_widths=(3, 5) if stem == "deep" else (),
        head=draw(heads()) if classes else (),
        num_classes=classes,
        in_channels=draw(st.integers(1, 4)),
        eps=draw(st.sampled_from((1e-5, 1e-3))),
        final_relu=draw(st.booleans()),
        hidden_activation=draw(st.sampled_from(("relu", "relu", "gelu", "leaky_relu:0.2"))),
        final_activation=draw(st.sampled_from((None, None, "relu", "elu"))),
        global_pool=draw(st.sampled_from(("avg", "catavgmax"))),
    )


def random_tensors(
    config: DenseNetConfig, seed: int = 0, dtype: Any = np.float32, *, scaled: bool = False, counters: bool = False
) -> dict[str, np.ndarray]:
    """Distinct values for every tensor of a network; variances are positive.

    Args:
        config: the network.
        seed: other values for another one.
        dtype: their type.
        scaled: convolutions keep the size of what goes through them, so that logits of deeper networks do not grow.
        counters: norms count batches, too.
    """
    random = np.random.default_rng(seed)
    result = {}
    for name, shape in config.tensors().items():
        if name.endswith("running_var"):
            values = random.uniform(0.5, 1.5, shape)
        else:
            width = (2 / max(np.prod(shape[1:]), 1)) ** 0.5 if scaled and len(shape) > 1 else 0.3
            values = random.normal(0, width, shape)
        result[name] = values.astype(dtype)
        if counters and name.endswith("running_var"):
            result[name.replace("running_var", COUNTER)] = np.array(random.integers(1000))
    return result


def random_model(
    config: DenseNetConfig = SMALL,
    seed: int = 0,
    *,
    preprocess: Preprocess | None = None,
    labels: tuple[str, ...] = (),
    changes: Mapping[str, np.ndarray] | None = None,
    **how: Any,
) -> Model:
    """A model of random tensors (see :func:`random_tensors`); ``changes`` are arrays to have instead."""
    arrays = random_tensors(config, seed, **how) | dict(changes or {})
    tensors = {name: Tensor.of(array) for name, array in arrays.items()}
    origin = Origin("random", "0" * 64, "memory", "library")
    return Model(config, tensors, origin, images=Images(preprocess, labels))


def save(network: DenseNetConfig | Model, path: Path, layout: str = "library") -> Path:
    """A model, or a random one, in a file of the library's; returns its path."""
    model = random_model(network) if isinstance(network, DenseNetConfig) else network
    write(path, in_layout(model, layout_named(layout)))
    return path


def export_model(model: Model, path: Path, **options: Any) -> onnx.ModelProto:
    """A model as an ONNX file; returns what was written.  Options as for ``to_onnx``."""
    proto = to_onnx(model, **options)
    path.write_bytes(proto.SerializeToString())
    return proto


def same_tensors(model: Model, expected: Mapping[str, np.ndarray]) -> None:
    """A model has exactly these arrays, bit for bit and of the same types."""
    assert set(model.tensors) == set(expected)
    for name, array in expected.items():
        have = model.tensors[name].read()
        assert have.dtype == array.dtype, name
        np.testing.assert_array_equal(have, array, err_msg=name)
