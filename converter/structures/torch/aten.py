"""Functions of ATen as the operators that the judge of wiring knows: one table for all of PyTorch's graphs.

Names and orders of parameters: pytorch, aten/src/ATen/native/native_functions.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Kind, Weight, Window, border_of
from converter.structures.torch.constants import FLOATS, Turned, along, number
from converter.structures.torch.elementwise import PARAMETERS, elementwise
from converter.structures.torch.values import Data, Size
from converter.structures.weights import made, transposed
from densenet.module import NORM_TENSORS

EVERYTHING = 1 << 62
"""An end from which on a slice goes to the end."""
TRAINING = "in training mode; call model.eval() before it is exported"


@dataclass(frozen=True)
class Found:
    """What a function does: its kind, the number of dimensions of its result, and more fields of its ``Op``."""

    kind: Kind
    rank: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


Given = Mapping[str, Any]
Reader = Callable[[str, Given, int | None, str], Found | None]
"""Takes the function's name, its arguments, the dimensions of what it takes first, and how errors call it."""


def _spread(value: Any, dims: int, default: int) -> tuple[int, ...] | None:
    """One number for all dimensions, or one for each; None if it is neither."""
    value = [default] if value is None or value == [] else [value] if isinstance(value, int) else value
    if not isinstance(value, list | tuple) or not all(isinstance(n, int) for n in value):
        return None
    return tuple(value) if len(value) == dims else tuple(value) * dims if len(value) == 1 else None


def _window(kernel: Any, strides: Any, pads: Any, dilations: Any, dims: int, **more: Any) -> Window | None:
    shape = _spread(kernel, dims, 1)
    steps = _spread(strides, dims, 1) if strides else shape
    around = (0,) * dims if isinstance(pads, str) else _spread(pads, dims, 0)
    apart = _spread(dilations, dims, 1)
    if shape is None or steps is None or around is None or apart is None or min(steps) < 1 or min(shape) < 1:
        return None
    return Window(shape, steps, around, around, apart, **more)


def _axis(value: Any, rank: int | None) -> int | None:
    """An axis counted from the first; None if that is not known."""
    if not isinstance(value, int) or (value < 0 and rank is None):
        return None
    return value if value >= 0 else value + (rank or 0)


def _axes(value: Any, rank: int | None) -> set[int | None]:
    return {_axis(n, rank) for n in (value if isinstance(value, list | tuple) else [value])}


def _conv(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    weight, bias, groups, pads = a.get("weight"), a.get("bias"), a.get("groups", 1), a.get("padding", 0)
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None) or not isinstance(groups, int):
        return None
    kernel = list(weight.tensor.shape[2:])
    dims = function[4:-1]
    if not kernel or a.get("transposed", False) is not False or (dims.isdigit() and int(dims) != len(kernel)):
        return None
    if isinstance(pads, str) and pads not in ("same", "valid"):
        return None
    window = _window(
        kernel, a.get("stride", 1), pads, a.get("dilation", 1), len(kernel), groups=groups, same=pads == "same"
    )
    weights = {"weight": weight, **({"bias": bias} if bias else {})}
    return Found("conv", len(kernel) + 2, {"weights": weights, "window": window}) if window else None


def _norm(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    if a.get("training", False) is not False:
        raise NotADenseNet(f"{name} normalises by the batch, {TRAINING}")
    eps, mean = a.get("eps"), a.get("running_mean")
    if not isinstance(eps, float | int) or not isinstance(mean, Weight):
        return None
    weights = {leaf: a.get(leaf) for leaf in NORM_TENSORS}
    for leaf, value in (("weight", 1.0), ("bias", 0.0)):
        if weights[leaf] is None:  # affine=False
            weights[leaf] = made(np.full(mean.tensor.shape, value), f"{mean.key} ({leaf} it lacks)", mean)
    if not all(isinstance(weight, Weight) for weight in weights.values()):
        return None
    return Found("norm", rank, {"weights": weights, "eps": float(eps)})


def _pool(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    largest, dims = function.startswith("max"), int(function.removesuffix("_with_indices")[-2])
    kernel, strides = a.get("kernel_size"), a.get("stride")
    if isinstance(kernel, list) and _is_whole(kernel, dims) and not largest:
        return Found("global_avg", rank)
    if (not largest and a.get("divisor_override") is not None) or not isinstance(a.get("ceil_mode", False), bool):
        return None
    ceil, dilations = a.get("ceil_mode", False), a.get("dilation", 1)
    window = _window(kernel, strides, a.get("padding", 0), dilations, dims, ceil=ceil)
    if window is None or (not largest and not a.get("count_include_pad", True) and any(window.begin)):
        return None
    return Found("max_pool" if largest else "avg_pool", rank, {"window": replace(window, zeros=not largest)})


def _is_whole(kernel: Sequence[Any], dims: int) -> bool:
    """Whether a window is as large as what it is moved over: its sizes are asked of the value itself."""
    sizes = [n for n in kernel if isinstance(n, Size)]
    return [n.axis for n in sizes] == list(range(2, 2 + dims)) and len({n.name for n in sizes}) == 1


def _adaptive(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    size, dims = a.get("output_size"), int(function[-2])
    if size not in (1, [1], [1] * dims, (1,) * dims):
        return None
    return Found("global_max" if "max" in function else "global_avg", rank)


def _reduce(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """A mean or maximum over all positions is global pooling."""
    if rank is None or rank < 3 or a.get("dtype") not in (None, *FLOATS):
        return None
    whole = _axes(a.get("dim"), rank) == set(range(2, rank))
    kind: Kind = "global_max" if function == "amax" else "global_avg"
    return Found(kind, rank if a.get("keepdim") else 2) if whole else None


def _cat(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    pieces = a.get("tensors")
    whole = isinstance(pieces, list | tuple) and all(isinstance(x, Data) for x in pieces)
    return Found("concat", rank) if whole and _axis(a.get("dim", 0), rank) == 1 else None


def _repeat(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    times = a.get("repeats", ())
    once = isinstance(times, list | tuple) and len(times) == rank and {*times[:1], *times[2:]} == {1}
    return Found("repeat", rank, {"times": times[1]}) if once and isinstance(times[1], int) else None


def _pad(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """``pads`` are of the last dimension first, in pairs."""
    pads, mode = a.get("pad", a.get("padding")), a.get("mode") or "constant"
    mode = "reflect" if function.startswith("reflection") else mode
    if not isinstance(pads, list | tuple) or not all(isinstance(n, int) and n >= 0 for n in pads) or len(pads) % 2:
        return None
    value = a.get("value") or 0
    kind = border_of(mode, value) if isinstance(value, int | float) else None
    if kind is None or rank is None or len(pads) != 2 * rank - 4:
        return None
    window = Window((), (), tuple(pads[-2::-2]), tuple(pads[-1::-2]))
    return Found(kind, rank, {"window": window})


def _linear(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """``linear`` takes its matrix the other way round than ``addmm`` and ``matmul`` do."""
    bias = a.get("bias") if function == "linear" else a.get("self") if function == "addmm" else None
    weight = a.get({"linear": "weight", "matmul": "other"}.get(function, "mat2"))
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None) or len(weight.tensor.shape) != 2:
        return None
    if (a.get("alpha", 1), a.get("beta", 1)) != (1, 1) or (bias is not None and len(bias.tensor.shape) > 1):
        return None
    if function != "linear" and isinstance(weight, Turned):
        weight = weight.of
    elif function != "linear":
        weight = replace(weight, key=f"{weight.key} (transposed)", tensor=transposed(weight.tensor))
    return Found("linear", rank, {"weights": {"weight": weight, **({"bias": bias} if bias else {})}})


def _arithmetic(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """A constant per channel or one number added or multiplied; or two values added."""
    pair = [a.get("self"), a.get("other")]
    if a.get("alpha", 1) != 1 or a.get("rounding_mode") is not None:
        return None
    if function == "rsub":
        pair, function = pair[::-1], "sub"
    data = [isinstance(x, Data) for x in pair]
    if all(data) and function == "add":
        return Found("add", rank)
    if all(data) or (not data[0] and function == "div"):
        return _elementwise(function, dict(zip(("self", "other"), pair)), rank, name)
    constant = pair[data.index(False)]
    if isinstance(constant, int | float):
        constant = number(float(constant))
    if not isinstance(constant, Weight):
        return None
    times: Weight | None = number(-1.0) if function == "sub" and not data[0] else None
    if function == "div" or (function == "sub" and data[0]):
        values = constant.tensor.read().astype(np.float64)
        with np.errstate(all="ignore"):
            turned = -values if function == "sub" else 1 / values
        turned = turned.astype(np.float32) if constant.tensor.shape else turned
        constant = replace(constant, key=f"{constant.key} ({name})", tensor=Tensor.of(turned))
    found = along(constant, rank)
    if found is None:
        return None
    leaf = "bias" if function in ("add", "sub") else "weight"
    weights = {leaf: found[1], **({"weight": times} if times is not None else {})}
    return Found(found[0], rank, {"weights": weights})


def _shape(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """Shapes changed behind global pooling, where channels are all there is."""
    if function == "flatten":
        start, end = _axis(a.get("start_dim", 0), rank), a.get("end_dim", -1)
        if rank is not None and rank > 3 and start == 2 and end == -1:
            return Found("skip", 3)  # all positions in one axis, over which pooling goes
        return Found("flatten", 2) if start == 1 and (end == -1 or _axis(end, rank) == (rank or 0) - 1) else None
    if function == "squeeze":
        axes = a.get("dim")
        wrong = axes is not None and not all(axis is not None and axis > 1 for axis in _axes(axes, rank))
        left = None if axes is None or rank is None else rank - len(_axes(axes, rank))
        return None if wrong else Found("flatten", left)
    sizes = a.get("size", a.get("shape"))
    if isinstance(sizes, list | tuple) and [getattr(n, "axis", n) for n in sizes] == [0, 1, -1] and (rank or 0) > 3:
        return Found("skip", 3)
    return Found("flatten", len(sizes) if isinstance(sizes, list | tuple) else None)


def _strided(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """All of a vector for each image (N, C, 1, 1), as the pooling of maps in channels-last memory gives it."""
    sizes, strides = a.get("size"), a.get("stride")
    if not isinstance(sizes, list | tuple) or not isinstance(strides, list | tuple) or rank != 4 or len(strides) != 4:
        return None
    width = sizes[1] if len(sizes) == 4 and list(sizes[2:]) == [1, 1] else None
    whole = isinstance(width, int) and list(strides[:2]) == [width, 1] and not a.get("storage_offset")
    return Found("flatten", rank) if whole else None


def _turn(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    dims = a.get("dims")
    if not isinstance(dims, list | tuple) or rank is None or not all(isinstance(n, int) for n in dims):
        return None
    order = [n + rank if n < 0 else n for n in dims]
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    if rank > 3 and order in (last, first):
        return Found("turn", rank, {"axis": -1 if order == last else 1})
    return Found("skip", rank) if order == list(range(rank)) else None


def _flip(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    axes = {_axis(n, rank) for n in a.get("dims") or ()}
    axis = axes.pop() if len(axes) == 1 else None
    return None if axis is None else Found("flip", rank, {"axis": axis})


def _index(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """Channels in reversed order, if that is what is taken."""
    indices, axis = a.get("index"), _axis(a.get("dim"), rank)
    if function == "index":
        places = a.get("indices") or []
        given = [i for i, n in enumerate(places) if n is not None] if isinstance(places, list | tuple) else []
        axis, indices = (given[0], places[given[0]]) if len(given) == 1 else (None, None)
    if not isinstance(indices, Weight) or axis is None or indices.tensor.dtype.kind not in "iu":
        return None
    order = indices.tensor.read().reshape(-1).tolist() if indices.tensor.shape in ((3,), (1,)) else []
    return Found("flip", rank, {"axis": axis}) if order == [2, 1, 0] else None


def _slice(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    start, end, step = a.get("start"), a.get("end"), a.get("step", 1)
    whole = start in (None, 0) and (end is None or (isinstance(end, int) and end >= EVERYTHING)) and step == 1
    return Found("skip", rank) if whole else None


def _cast(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """A type of real numbers; whatever else ``to`` is told (a device, a memory format) changes nothing."""
    dtype = a.get("dtype")
    if function == "to" and isinstance(dtype, str | Weight | Data):
        dtype = a.get("layout") if isinstance(dtype, str) else None
    return Found("skip", rank) if dtype is None or (isinstance(dtype, int) and dtype in FLOATS) else None


def _dropout(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    if a.get("train", a.get("training", True)) is not False and a.get("p") != 0:
        raise NotADenseNet(f"{name} drops features, {TRAINING}")
    return Found("skip", rank)


def _end(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    dim = a.get("dim", 1 if function == "sigmoid" else None)
    kind: Kind = "softmax" if function in ("softmax", "_softmax") else "sigmoid" if function == "sigmoid" else "end"
    return Found(kind, rank) if dim == 1 or (dim == -1 and rank in (None, 2)) else None


def _relu(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    low = a.get("min", 0)
    return Found("relu", rank) if low == 0 and not isinstance(low, bool) else None


def _elementwise(function: str, a: Given, rank: int | None, name: str) -> Found | None:
    """Each number by itself: perhaps a part of an activation."""
    compute = elementwise(function, a)
    return None if compute is None else Found("other", rank, {"compute": compute})


def _kind(kind: Kind) -> Reader:
    return lambda function, a, rank, name: Found(kind, rank)


DIMS = (1, 2, 3)
CONV = "input weight bias stride padding dilation"
POOL = "self kernel_size stride padding"
NORM = "input weight bias running_mean running_var"

_TABLE: Sequence[tuple[str, str, Reader]] = (
    *((f"conv{n}d", f"{CONV} groups", _conv) for n in DIMS),
    ("convolution", f"{CONV} transposed output_padding groups", _conv),
    ("_convolution", f"{CONV} transposed output_padding groups benchmark deterministic cudnn allow_tf32", _conv),
    ("batch_norm", f"{NORM} training momentum eps cudnn_enabled", _norm),
    ("_batch_norm_impl_index", f"{NORM} training momentum eps cudnn_enabled", _norm),
    ("native_batch_norm", f"{NORM} training momentum eps", _norm),
    ("_native_batch_norm_legit", f"{NORM} training momentum eps", _norm),
    ("_native_batch_norm_legit_no_training", f"{NORM} momentum eps", _norm),
    ("_batch_norm_no_update", f"{NORM} momentum eps", _norm),
    *((f"max_pool{n}d{more}", f"{POOL} dilation ceil_mode", _pool) for n in DIMS for more in ("", "_with_indices")),
    *((f"avg_pool{n}d", f"{POOL} ceil_mode count_include_pad divisor_override", _pool) for n in DIMS),
    *((f"adaptive_{kind}_pool{n}d", "self output_size", _adaptive) for kind in ("avg", "max") for n in DIMS),
    *((f"_adaptive_avg_pool{n}d", "self output_size", _adaptive) for n in DIMS),
    ("mean", "self dim keepdim dtype", _reduce),
    ("amax", "self dim keepdim", _reduce),
    ("cat", "tensors dim", _cat),
    ("concat", "tensors dim", _cat),
    ("pad", "self pad mode value", _pad),
    ("constant_pad_nd", "self pad value", _pad),
    *((f"reflection_pad{n}d", "self padding", _pad) for n in DIMS),
    ("linear", "input weight bias", _linear),
    ("addmm", "self mat1 mat2 beta alpha", _linear),
    ("mm", "self mat2", _linear),
    ("matmul", "self other", _linear),
    *((name, "self other alpha", _arithmetic) for name in ("add", "sub", "rsub")),
    *((name, "self other rounding_mode", _arithmetic) for name in ("mul", "div")),
    ("flatten", "self start_dim end_dim", _shape),
    ("squeeze", "self dim", _shape),
    *((name, "self size", _shape) for name in ("view", "_unsafe_view", "reshape")),
    ("as_strided", "self size stride storage_offset", _strided),
    ("permute", "self dims", _turn),
    ("repeat", "self repeats", _repeat),
    ("flip", "self dims", _flip),
    ("index", "self indices", _index),
    ("index_select", "self dim index", _index),
    ("slice", "self dim start end step", _slice),
    ("to", "self dtype layout device", _cast),
    *((name, "self dtype", _cast) for name in ("_to_copy", "convert_element_type")),
    *((name, "self", _kind("skip")) for name in ("float", "double", "half", "bfloat16", "cpu", "cuda", "type_as")),
    ("contiguous", "self memory_format", _kind("skip")),
    ("clone", "self memory_format", _kind("skip")),
    *((name, "self", _kind("skip")) for name in ("detach", "alias", "lift_fresh_copy", "requires_grad")),
    *((name, "self p train", _dropout) for name in ("dropout", "feature_dropout", "alpha_dropout", "native_dropout")),
    ("relu", "self", _relu),
    ("clamp_min", "self min", _relu),
    ("softmax", "self dim dtype", _end),
    ("_softmax", "self dim half_to_float", _end),
    ("log_softmax", "self dim dtype", _end),
    ("_log_softmax", "self dim half_to_float", _end),
    ("argmax", "self dim keepdim", _end),
    ("sigmoid", "self", _end),
    *((name, parameters, _elementwise) for name, parameters in PARAMETERS.items() if name not in ("sub", "mul", "div")),
)

READERS: Mapping[str, Reader] = {name: reader for name, _, reader in _TABLE}
"""Functions by name, without the underscore of those that work in place; None for what a DenseNet does not do."""

SIGNATURES: Mapping[str, str] = {
    **{name: signature for name, signature, _ in _TABLE},
    **dict.fromkeys(("size", "sym_size"), "self dim"),
    **dict.fromkeys(("t", "sqrt", "rsqrt", "numel", "dim"), "self"),
    "transpose": "self dim0 dim1",
    "unsqueeze": "self dim",
    "expand": "self size",
    "tensor": "data dtype device requires_grad",
    "as_tensor": "data dtype device",
    "stack": "tensors dim",
    "full": "size fill_value",
    "ones": "size",
    "zeros": "size",
    "copy": "self src",
}
"""Names of parameters, in order."""

FRESH = frozenset(
    name
    for name, _, reader in _TABLE
    if reader
    in (_conv, _norm, _pool, _adaptive, _reduce, _cat, _pad, _linear, _arithmetic, _flip, _index, _relu, _end, _repeat)
    or reader is _elementwise
    or name in ("clone", "_to_copy", "lift_fresh_copy")
)
"""Functions whose result has memory of its own."""
