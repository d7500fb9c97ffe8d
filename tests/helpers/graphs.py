"""ONNX graphs, run and changed in places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from densenet.config import DenseNetConfig
from helpers.networks import export_model, random_model

TINY = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2), init_features=6, bn_size=2, num_classes=5)


def images(config: DenseNetConfig = TINY, size: int = 37) -> np.ndarray:
    shape = (2, config.in_channels, *[size] * config.spatial_dims)
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def exported(tmp_path: Path, config: DenseNetConfig = TINY, **options: object) -> tuple[Path, onnx.ModelProto]:
    """A graph of ours without its metadata: only the nodes can tell what it computes."""
    path = tmp_path / "model.onnx"
    proto = export_model(random_model(config), path, **{"graph": "exact", **options})
    del proto.metadata_props[:]
    path.write_bytes(proto.SerializeToString())
    return path, proto


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def set_constants(proto: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> None:
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())


def set_nodes(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def node_named(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.output[0] == name)


def external(tmp_path: Path, location: str = "weights.bin", **entries: object) -> Path:
    path, proto = exported(tmp_path)
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    proto = onnx.load(path, load_external_data=False)
    first = next(tensor for tensor in proto.graph.initializer if tensor.external_data)
    for entry in first.external_data:
        if entry.key == "location":
            entry.value = location
        elif entry.key in entries:
            entry.value = str(entries[entry.key])
    path.write_bytes(proto.SerializeToString())
    return path
