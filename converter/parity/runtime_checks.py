"""What a file of another runtime says of itself, and the network it is read as, without running it."""

from converter.core.errors import ConverterError
from converter.core.metadata import ACTIVATION_KEY, LABELS_KEY, PREPROCESS_KEY, json_or_none
from converter.core.model import known_activation
from converter.parity.artifact import Artifact
from converter.parity.checks import Check, metadata_checks, model_checks, own_metadata
from converter.parity.truth import Truth
from densenet.config import DenseNetConfig


def runtime_checks(file: Artifact, truth: Truth, precision: str) -> list[Check]:
    """Compare what a file says with the reference; where we can read it back, also the network and its weights."""
    config, declared = truth.config, file.declared
    result = [_input(declared.shape, config), _output(declared.width, config)]
    if file.is_own():
        result += own_metadata({key: json_or_none(text) for key, text in declared.metadata.items()}, config)
    values = [json_or_none(declared.metadata.get(key, "")) for key in (PREPROCESS_KEY, LABELS_KEY)]
    activation = known_activation(declared.metadata.get(ACTIVATION_KEY, ""))
    said = metadata_checks(truth.images, values[0], values[1], activation)
    try:
        found = file.inspection.model
    except ConverterError as error:
        reason = str(error).removeprefix(f"{file.path}: ")
        return [*result, Check("graph", None, f"is not read back, only run: {reason}"), *said]
    result += [Check("graph", True), *(check for check in said if check.ok is not None)]
    if truth.model is None:
        return result
    known = {check.name for check in result}
    return result + [c for c in model_checks(truth.model, found, precision) if c.name not in known]


def _input(shape: tuple[int | None, ...], config: DenseNetConfig) -> Check:
    said = str(["any" if n is None else n for n in shape]).replace("'", "")
    if len(shape) != config.spatial_dims + 2 or shape[1] not in (None, config.in_channels):
        wanted = f"{config.spatial_dims + 2} axes and {config.in_channels} channels expected"
        return Check("input", False, f"{said}: {wanted}")
    fixed = any(n is not None for n in (shape[0], *shape[2:]))
    return Check("input", True, f"{said}; compared on such inputs only" if fixed else said)


def _output(width: int, config: DenseNetConfig) -> Check:
    expected = config.num_classes or config.classifier_features
    right = width in (0, expected)
    return Check("output", right, "" if right else f"{width} values per image, {expected} expected")
