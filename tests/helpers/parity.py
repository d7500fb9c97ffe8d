"""Networks to verify, and ways to change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from converter.core.checkpoint import Tensor
from converter.core.model import Model
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess
from helpers.networks import SMALL, random_model

PREPROCESS = Preprocess(resize=72, crop=(64, 64))


def network(config: DenseNetConfig = SMALL, seed: int = 0) -> Model:
    labels = tuple(f"class {i}" for i in range(config.num_classes))
    return random_model(config, seed, preprocess=PREPROCESS, labels=labels)


def changed(model: Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Model:
    return replace(model, tensors={**model.tensors, name: Tensor.of(change(model.tensors[name].read().copy()))})


def edit(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(source)
    change(proto)
    target.write_bytes(proto.SerializeToString())
    return target


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in proto.graph.node if n.output[0] == name)
