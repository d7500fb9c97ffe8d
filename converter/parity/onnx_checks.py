"""What an ONNX file declares, and the network its graph is, without running it."""

from dataclasses import replace

import onnx

from converter.core.errors import CannotWrite, ConverterError, first_line
from converter.core.interface import Presented
from converter.core.metadata import LABELS_KEY, PREPROCESS_KEY, json_or_none
from converter.core.model import Images, Model
from converter.engines.run import loadable
from converter.engines.stoppable import stoppable
from converter.exporters.graph import IMAGE
from converter.exporters.onnx import LOWEST_OPSET
from converter.exporters.outputs import channels, stages, vectors
from converter.parity.artifact import Artifact
from converter.parity.checks import (
    ROUNDINGS,
    Check,
    comparable,
    config_checks,
    metadata_checks,
    own_metadata,
    weight_check,
    with_folded_eps,
)
from converter.parity.image_checks import prepares_images
from converter.parity.proto import activation_of, channels_last, dims_of, inputs_of, is_own, precision_of, takes_pixels
from densenet.config import DenseNetConfig
from densenet.topology import FEATURES, INPUT, LOGITS


def onnx_checks(
    file: Artifact, config: DenseNetConfig, images: Images, model: Model | None, *, promised: bool = False
) -> list[Check]:
    """Compare what an ONNX file says with the reference.

    A file that carries this tool's metadata promises more than a foreign one: its input and outputs are what it says,
    and the graph is one that can be read back as a DenseNet.

    Args:
        file: the candidate; one in memory is not read back.
        config, images: the reference's network, and what it says of images and classes.
        model: the same with its weights, where they are at hand.
        promised: the file is said to be this tool's, whatever it says itself.
    """
    proto = file.proto
    assert proto is not None
    own = promised or is_own(proto)
    given = file.output("") if file.head and not file.branched else ""
    result = [_valid(file), _opset(proto, own), _input(proto, config, own), _output(file, config, own, given)]
    if file.said() != Presented() or file.problem:
        result.append(Check("interface", not file.problem, file.problem))
    if takes_pixels(proto) and own:
        result.append(prepares_images(proto, config, images.preprocess, resized=file.said().resized))
    if file.path is None:
        return result
    precision = precision_of(proto)
    if precision not in ROUNDINGS:
        said = {prop.key: json_or_none(prop.value) for prop in proto.metadata_props}
        result += own_metadata(said, config) if own else []
        activation = activation_of(proto)
        return result + metadata_checks(images, said.get(PREPROCESS_KEY), said.get(LABELS_KEY), activation)
    if own and not file.main():
        ends = ", ".join(file.called(name) for name in file.further_outputs())
        return [*result, Check("graph", None, f"gives {ends} alone, and is no whole network to be read back")]
    try:
        found = file.inspection
    except ConverterError as error:
        reason = str(error).removeprefix(f"{file.path}: ")
        return [*result, Check("graph", False if own else None, f"cannot be read as a DenseNet: {reason}")]
    result.append(Check("graph", True))
    assert found.chosen.config is not None
    # What the graph does, whatever the metadata says; and what that says, whatever the graph does.
    stated, graph = found.model, replace(found.model, config=found.chosen.config)
    compared = list(config_checks(config, graph.config))
    result += compared
    if own and (odd := odd_eps(proto)):
        result.append(Check("eps of each norm", False, ": ".join(odd)))
    result += own_metadata(stated.stated, graph.config) if own else []
    recorded = stated.images
    result += metadata_checks(images, recorded.preprocess, recorded.labels, recorded.activation)
    if model is not None and compared[0].ok:
        model, graph = comparable(model, graph)
        result = [*with_folded_eps(result, model, graph), weight_check(model, graph, precision)]
    return result


def odd_eps(proto: onnx.ModelProto) -> tuple[str, str] | None:
    """The first norm whose eps is not the others', and what it is; files of this tool have one.

    Read back, its variance takes the difference, which logits may not show.
    """
    found = {
        node.output[0]: next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        for node in proto.graph.node
        if node.op_type == "BatchNormalization"
    }
    usual = max(set(found.values()), key=list(found.values()).count, default=0.0)
    return next(
        ((name, f"eps is {eps:.8g}, {usual:.8g} elsewhere") for name, eps in found.items() if eps != usual), None
    )


def _valid(file: Artifact) -> Check:
    source = file.source()
    assert source is not None
    try:
        with loadable(source) as path:
            stoppable(lambda: onnx.checker.check_model(path, full_check=True))
    except CannotWrite:  # no room for temporary files says nothing of the graph
        raise
    except Exception as error:  # its errors share no class
        return Check("valid ONNX", False, first_line(error))
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
    values = inputs_of(proto)
    if len(values) != 1:
        return Check("input", False, f"{len(values)} inputs; one batch of images expected")
    name, dims = values[0].name, dims_of(values[0])
    said, rank = f"{name} {dims}", config.spatial_dims + 2
    channels = rank - 1 if takes_pixels(proto) or channels_last(proto) else 1
    if own and name not in (INPUT, IMAGE):
        return Check("input", False, f"{said}: it is called {INPUT} or {IMAGE} in files of this tool")
    if len(dims) != rank or (isinstance(dims[channels], int) and dims[channels] != config.in_channels):
        return Check("input", False, f"{said}: {rank} axes and {config.in_channels} channels expected")
    fixed = [d for i, d in enumerate(dims) if i != channels and isinstance(d, int)]
    return Check("input", True, f"{said}; compared on such inputs only" if fixed else said)


def _output(file: Artifact, config: DenseNetConfig, own: bool, given: str) -> Check:
    proto = file.proto
    assert proto is not None
    values = {value.name: dims_of(value) for value in proto.graph.output}
    said = ", ".join(f"{file.called(name)} {dims}" for name, dims in values.items())
    width, name = (config.num_classes, LOGITS) if config.num_classes else (config.classifier_features, FEATURES)
    if own and name not in values and (file.main() or file.problem):
        return Check("output", False, f"{said}: one is called {name} in files of this tool")
    for inner, wanted in _widths(config).items() if own else ():
        dims = values.get(inner, [])
        if dims and (len(dims) < 2 or dims[1] != wanted):
            return Check("output", False, f"{said}: {wanted} values or maps expected of {inner}")
    dims = values.get(given or name) or next(iter(values.values()), [])
    if not dims or (file.main() and isinstance(dims[-1], int) and dims[-1] != width):
        return Check("output", False, f"{said}: {width} values per image expected")
    taken = dims_of(inputs_of(proto)[0])[:1] if inputs_of(proto) else []
    if own and [isinstance(dims[0], int), dims[0]] != [isinstance(n, int) for n in taken] + taken:
        return Check("output", False, f"{said}: as many as images expected, {taken[0] if taken else 'none'}")
    return Check("output", True, said)


def _widths(config: DenseNetConfig) -> dict[str, int]:
    """Channels of everything a file of this tool may give, by name in the graph."""
    return {stages(config).get(name, name): n for name, n in {**vectors(config), **channels(config)}.items()}
