"""Modules of torch.nn that a GraphModule calls whole, as functions of ATen; and those of torch.nn.functional."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converter.structures.torch.code import Interpreter
from converter.structures.torch.modules import Module
from converter.structures.torch.values import Data

DIMS = (1, 2, 3)
POOL = "self kernel_size stride padding"
FUNCTIONAL: Mapping[str, str] = {
    **{f"conv{n}d": "input weight bias stride padding dilation groups" for n in DIMS},
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "relu": "self inplace",
    **{f"max_pool{n}d": f"{POOL} dilation ceil_mode return_indices" for n in DIMS},
    **{f"avg_pool{n}d": f"{POOL} ceil_mode count_include_pad divisor_override" for n in DIMS},
    **{f"adaptive_{kind}_pool{n}d": "self output_size return_indices" for kind in ("avg", "max") for n in DIMS},
    "linear": "input weight bias",
    **{f"dropout{n}": "self p training inplace" for n in ("", "1d", "2d", "3d")},
    "softmax": "self dim _stacklevel dtype",
    "log_softmax": "self dim _stacklevel dtype",
    "sigmoid": "self",
    "pad": "self pad mode value",
    **dict.fromkeys(("relu6", "silu", "mish", "selu", "hardswish", "hardsigmoid"), "self inplace"),
    **dict.fromkeys(("tanh", "softsign"), "self"),
    "leaky_relu": "self negative_slope inplace",
    **dict.fromkeys(("elu", "celu"), "self alpha inplace"),
    "hardtanh": "self min_val max_val inplace",
    "rrelu": "self lower upper training inplace",
    "threshold": "self threshold value inplace",
    "gelu": "self approximate",
    "softplus": "self beta threshold",
    "prelu": "self weight",
}
"""Parameters of torch.nn.functional, by the names of ATen's (torch/nn/functional.py has them in another order)."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
NORM = ("weight", "bias", "running_mean", "running_var")

State = Mapping[str, Any]
Leaf = Callable[[State], tuple[str, dict[str, Any]] | None]
"""The function and its arguments beside the tensor, from a module's attributes; None for what is not understood."""


def _picked(function: str, *names: str) -> Leaf:
    """A function whose parameters are called as the module's attributes are."""
    return lambda state: (function, {name: state[name] for name in names if name in state})


def _conv(function: str) -> Leaf:
    def leaf(state: State) -> tuple[str, dict[str, Any]] | None:
        if state.get("padding_mode", "zeros") != "zeros":
            return None
        return function, {k: state.get(k) for k in ("weight", "bias", "stride", "padding", "dilation", "groups")}

    return leaf


def _norm(state: State) -> tuple[str, dict[str, Any]] | None:
    if state.get("running_mean") is None or not state.get("track_running_stats", True):
        return None
    return "batch_norm", {**{name: state.get(name) for name in NORM}, "training": False, "eps": state.get("eps")}


def _inplace(function: str, *names: str) -> Leaf:
    """A function that may work in place; its parameters are called as the module's attributes are."""
    return lambda state: (
        f"{function}_" if state.get("inplace") else function,
        {name: state[name] for name in names if name in state},
    )


def _max_pool(function: str) -> Leaf:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return lambda state: None if state.get("return_indices") else (function, {k: state[k] for k in names if k in state})


def _adaptive_max(function: str) -> Leaf:
    return lambda state: None if state.get("return_indices") else (function, {"output_size": state.get("output_size")})


def _dropout(state: State) -> tuple[str, dict[str, Any]]:
    return ("dropout_" if state.get("inplace") else "dropout"), {"p": state.get("p"), "train": False}


AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
LEAVES: Mapping[str, Leaf] = {
    **{f"Conv{n}d": _conv(f"conv{n}d") for n in DIMS},
    **dict.fromkeys((*(f"BatchNorm{n}d" for n in DIMS), "SyncBatchNorm"), _norm),
    "ReLU": _inplace("relu"),
    "LeakyReLU": _inplace("leaky_relu", "negative_slope"),
    **{name: _inplace(name.lower(), "alpha") for name in ("ELU", "CELU")},
    **{name: _inplace(name.lower()) for name in ("SELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid")},
    **dict.fromkeys(("ReLU6", "Hardtanh"), _inplace("hardtanh", "min_val", "max_val")),
    "RReLU": _inplace("rrelu", "lower", "upper"),
    "Threshold": _inplace("threshold", "threshold", "value"),
    "GELU": _picked("gelu", "approximate"),
    "Softplus": _picked("softplus", "beta", "threshold"),
    "PReLU": _picked("prelu", "weight"),
    **{name: _picked(name.lower()) for name in ("Tanh", "Softsign")},
    **{f"MaxPool{n}d": _max_pool(f"max_pool{n}d") for n in DIMS},
    **{f"AvgPool{n}d": _picked(f"avg_pool{n}d", *AVG_POOL) for n in DIMS},
    **{f"AdaptiveAvgPool{n}d": _picked(f"adaptive_avg_pool{n}d", "output_size") for n in DIMS},
    **{f"AdaptiveMaxPool{n}d": _adaptive_max(f"adaptive_max_pool{n}d") for n in DIMS},
    "Linear": _picked("linear", "weight", "bias"),
    **dict.fromkeys(
        ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), _dropout
    ),
    "Identity": _picked("alias"),
    "Flatten": _picked("flatten", "start_dim", "end_dim"),
    "Softmax": _picked("softmax", "dim"),
    "LogSoftmax": _picked("log_softmax", "dim"),
    "Sigmoid": _picked("sigmoid"),
    "ZeroPad2d": _picked("constant_pad_nd", "padding"),
    "ConstantPad2d": _picked("constant_pad_nd", "padding", "value"),
}
"""By class of torch.nn."""


def run_leaf(graph: Interpreter, module: Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What a module makes of a tensor.

    Raises:
        NotADenseNet: it cannot be followed.
    """
    cls = module.record.cls
    called = f"{module.path} ({cls.rpartition('.')[2]})"
    state: dict[str, Any] = dict(module.record.state) if isinstance(module.record.state, dict) else {}
    leaf = LEAVES.get(cls.rpartition(".")[2]) if cls.startswith("torch.nn.modules.") else None
    hooked = any(state.get(hook) for hook in HOOKS)
    one = len(arguments) == 1 and not keywords and isinstance(arguments[0], Data)
    for kind in ("_parameters", "_buffers"):
        members = state.get(kind)
        state |= {name: graph.constant(value) for name, value in members.items()} if isinstance(members, dict) else {}
    found = leaf(state) if leaf is not None and one and not hooked else None
    if found is None:
        return graph.opaque([*arguments, dict(keywords)], called, inplace=True)
    if state.get("training") and leaf in (_norm, _dropout) and not graph.notes:
        graph.notes.append("the module was saved in training mode; it is read as in evaluation mode")
    function, given = found
    if function == "constant_pad_nd":
        given = {"pad": given.get("padding"), "value": given.get("value")}
    return graph.operators.call(function, [arguments[0]], given, name=called)
