"""What an ONNX file declares, and the network its graph is, without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from converter.convert import model_of, read
from converter.errors import ConverterError, UnreadableFile
from converter.evidence import CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY, json_or_none
from converter.exporters.graph import FEATURES, IMAGE, INPUT, LOGITS
from converter.exporters.onnx import LOWEST_OPSET
from converter.formats import open_checkpoint
from converter.model import Model
from converter.parity.checks import Check, config_checks, metadata_checks, own_metadata, weight_check, with_folded_eps
from converter.parity.image_checks import prepares_images
from densenet.config import DenseNetConfig

PRECISIONS = {
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "int8",
}


def read_proto(path: Path) -> onnx.ModelProto:
    """An ONNX file with its weights.

    Raises:
        UnreadableFile: it is missing, or no ONNX file.
    """
    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf's errors share no class with onnx's
        reason = error.strerror if isinstance(error, OSError) else "not an ONNX file, or damaged"
        raise UnreadableFile(f"{path}: cannot be read ({reason})") from error
    if not proto.graph.node:
        raise UnreadableFile(f"{path}: not an ONNX file, or one without a graph")
    return proto


def precision_of(proto: onnx.ModelProto) -> str:
    """``fp32``, or what most of the weights (by their number) are stored in: ``fp16``, ``bf16``, ``int8``.

    One tensor in half precision is a fault, not a variant.
    """
    counts: dict[str, int] = {}
    for weight in proto.graph.initializer:
        if len(weight.dims) > 1:
            precision = PRECISIONS.get(weight.data_type, "fp32")
            counts[precision] = counts.get(precision, 0) + math.prod(weight.dims)
    most = max(counts, key=counts.__getitem__, default="fp32")
    return most if 2 * counts.get(most, 0) > sum(counts.values()) else "fp32"


def takes_pixels(proto: onnx.ModelProto) -> bool:
    """Whether it takes 8-bit images and prepares them itself."""
    return any(value.type.tensor_type.elem_type == onnx.TensorProto.UINT8 for value in _inputs(proto))


def fixed_size(proto: onnx.ModelProto) -> tuple[int, ...]:
    """The height and width a foreign file is fixed to; empty if it takes any, or says it does."""
    values = _inputs(proto)
    space = _dims(values[0])[2:] if len(values) == 1 and not is_own(proto) else []
    return tuple(int(n) for n in space) if space and all(isinstance(n, int) for n in space) else ()


def has_free_batch(proto: onnx.ModelProto) -> bool:
    """Whether it declares a batch of any length."""
    values = _inputs(proto)
    return len(values) == 1 and not isinstance(next(iter(_dims(values[0])), 0), int)


def onnx_checks(
    proto: onnx.ModelProto,
    path: Path | None,
    config: DenseNetConfig,
    reference: Model | None = None,
    *,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    promised: bool = False,
) -> list[Check]:
    """Compare what an ONNX file says with the reference.

    A file that carries this tool's metadata promises more than a foreign one: batch, height and
    width are dynamic, and the graph is one that can be read back as a DenseNet.

    Args:
        proto: the file.
        path: where it is, to read its network back; None for one in memory.
        config: the reference's network.
        reference: the reference with its weights, where they are at hand.
        preprocess, labels: what the reference records.
        promised: the file is said to be this tool's, whatever it says itself.
    """
    own = promised or is_own(proto)
    result = [_valid(proto), _opset(proto, own), _input(proto, config, own), _output(proto, config, own)]
    if takes_pixels(proto) and own:
        result.append(prepares_images(proto, preprocess or {}))
    if path is None:
        return result
    if precision_of(proto) != "fp32":
        said = {prop.key: json_or_none(prop.value) for prop in proto.metadata_props}
        result += own_metadata(said, config) if own else []
        return result + metadata_checks(preprocess or {}, labels, said.get(PREPROCESS_KEY), said.get(LABELS_KEY))
    try:
        checkpoint = open_checkpoint(path)
        candidate, _ = read(checkpoint)
        stated = model_of(checkpoint, candidate, path.name, {})
    except ConverterError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [*result, Check("graph", False if own else None, f"cannot be read as a DenseNet: {reason}")]
    result.append(Check("graph", True))
    assert candidate.config is not None
    # What the graph does, whatever the metadata says; and what that says, whatever the graph does.
    graph = replace(stated, config=candidate.config)
    compared = list(config_checks(config, graph.config))
    result += compared
    result += own_metadata(stated.stated, graph.config) if own else []
    result += metadata_checks(preprocess or {}, labels, stated.preprocess, stated.labels)
    if reference is not None and compared[0].ok:
        result = [*with_folded_eps(result, reference, graph), weight_check(reference, graph)]
    return result


def _valid(proto: onnx.ModelProto) -> Check:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # its errors share no class
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        return Check("valid ONNX", False, first)
    return Check("valid ONNX", True)


def _opset(proto: onnx.ModelProto, own: bool) -> Check:
    used = {node.domain or "ai.onnx" for node in proto.graph.node}
    versions = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    versions = {domain: version for domain, version in versions.items() if domain in used}
    said = ", ".join(f"{domain} {version}" for domain, version in versions.items())
    if own and (set(versions) != {"ai.onnx"} or versions["ai.onnx"] < LOWEST_OPSET):
        return Check("opset", False, f"{said}; this tool writes ai.onnx {LOWEST_OPSET} and newer")
    return Check("opset", True, said)


def _input(proto: onnx.ModelProto, config: DenseNetConfig, own: bool) -> Check:
    values = _inputs(proto)
    if len(values) != 1:
        return Check("input", False, f"{len(values)} inputs; one batch of images expected")
    name, dims = values[0].name, _dims(values[0])
    said, rank = f"{name} {dims}", config.spatial_dims + 2
    channels = rank - 1 if takes_pixels(proto) else 1
    if own and name not in (INPUT, IMAGE):
        return Check("input", False, f"{said}: it is called {INPUT} or {IMAGE} in files of this tool")
    if len(dims) != rank or (isinstance(dims[channels], int) and dims[channels] != config.in_channels):
        return Check("input", False, f"{said}: {rank} axes and {config.in_channels} channels expected")
    fixed = [d for i, d in enumerate(dims) if i != channels and isinstance(d, int)]
    if own and fixed:
        return Check("input", False, f"{said}: batch and size are dynamic in files of this tool")
    return Check("input", True, f"{said}; compared on such inputs only" if fixed else said)


def _output(proto: onnx.ModelProto, config: DenseNetConfig, own: bool) -> Check:
    values = {value.name: _dims(value) for value in proto.graph.output}
    said = ", ".join(f"{name} {dims}" for name, dims in values.items())
    width, name = (config.num_classes, LOGITS) if config.num_classes else (config.classifier_features, FEATURES)
    if own and name not in values:
        return Check("output", False, f"{said}: one is called {name} in files of this tool")
    dims = values.get(name) or next(iter(values.values()), [])
    if not dims or (isinstance(dims[-1], int) and dims[-1] != width):
        return Check("output", False, f"{said}: {width} values per image expected")
    if own and isinstance(dims[0], int):
        return Check("output", False, f"{said}: the batch is dynamic in files of this tool")
    return Check("output", True, said)


def is_own(proto: onnx.ModelProto) -> bool:
    """Whether this tool wrote it, and no optimiser has put operators of its own into it since."""
    standard = all(node.domain in ("", "ai.onnx") for node in proto.graph.node)
    return standard and any(prop.key == CONFIG_KEY for prop in proto.metadata_props)


def _inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {w.name for w in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in constants]


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims]
