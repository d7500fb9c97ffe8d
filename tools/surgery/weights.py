"""Surgery on weights: parametrisations, types of numbers, what is around and beside them in a file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from tools.surgery import networks, parts
from tools.surgery.patient import Patient
from tools.surgery.record import Surgery

Operation = Callable[[Patient], None]
Tree = dict[str, Any]

# -- parametrisations ------------------------------------------------------------------------------


def convs(p: Patient) -> list[nn.Conv2d]:
    """The network's convolutions."""
    return [m for m in p.net.modules() if isinstance(m, nn.Conv2d)]


def on_convs(change: Callable[[nn.Module], Any]) -> Operation:
    """Something done to every convolution; then one run, so that what it measures is there."""

    def operate(p: Patient) -> None:
        for conv in convs(p):
            change(conv)
        settle(p)

    return operate


def on_head(change: Callable[[nn.Module], Any]) -> Operation:
    """Something done to the head."""

    def operate(p: Patient) -> None:
        linear = next(m for m in reversed(list(p.module.modules())) if isinstance(m, nn.Linear))
        change(linear)
        settle(p)

    return operate


def settle(p: Patient) -> None:
    """One run for what is measured on the way."""
    p.module.eval()
    with torch.no_grad():
        p.module(p.images(2, 3))


def standardised(p: Patient) -> None:
    """Weight standardisation in every 3x3 convolution."""
    for layer in p.layers():
        layer.conv2.__class__ = parts.StandardisedConv2d


def tied(p: Patient) -> None:
    """Two layers of one block share a convolution."""
    first, second = (
        p.layers()[0],
        next(x for x in p.layers()[1:] if x.conv2.weight.shape == p.layers()[0].conv2.weight.shape),
    )
    second.conv2 = first.conv2


def random_mask(module: nn.Module) -> None:
    """Some of its weights pruned."""
    prune.random_unstructured(module, "weight", 0.3)


def channels_mask(module: nn.Module) -> None:
    """Some of its channels pruned."""
    prune.ln_structured(module, "weight", 0.3, n=2, dim=0)


def l1_mask(module: nn.Module) -> None:
    """Its smallest weights pruned."""
    prune.l1_unstructured(module, "weight", 0.4)


PARAMETRISATION = (
    Surgery("weights-norm-old", on_convs(torch.nn.utils.weight_norm), "never", late=True),
    Surgery("weights-norm", on_convs(parametrizations.weight_norm), "never", late=True),
    Surgery("weights-norm-head", on_head(parametrizations.weight_norm), "never", late=True),
    Surgery("weights-spectral-old", on_convs(torch.nn.utils.spectral_norm), "never", late=True),
    Surgery("weights-spectral", on_convs(parametrizations.spectral_norm), "never", late=True),
    Surgery("weights-spectral-head", on_head(parametrizations.spectral_norm), "never", late=True),
    Surgery("weights-orthogonal", on_head(parametrizations.orthogonal), r"orthogonal|parametri", late=True),
    Surgery(
        "weights-own-parametrisation",
        on_head(lambda m: parametrize.register_parametrization(m, "weight", parts.Symmetric())),
        r"Symmetric|parametri",
        late=True,
    ),
    Surgery("weights-pruned", on_convs(random_mask), "never", late=True),
    Surgery("weights-pruned-channels", on_convs(channels_mask), "never", late=True),
    Surgery("weights-pruned-l1", on_convs(l1_mask), "never", late=True),
    Surgery("weights-standardised", standardised, r"StandardisedConv2d|class|code|weights as stored", late=True),
    Surgery("weights-tied", tied, "never", late=True),
)

# -- types of numbers ------------------------------------------------------------------------------


def cast(dtype: torch.dtype) -> Operation:
    """All of it."""

    def operate(p: Patient) -> None:
        p.module.to(dtype)
        p.exact = True

    return operate


def half_body(p: Patient) -> None:
    """All but the norms and the head."""
    for module in p.net.modules():
        if isinstance(module, nn.Conv2d):
            module.half()
    p.exact = True


DTYPES = (
    Surgery("dtype-half", cast(torch.float16), "lower precision", late=True),
    Surgery("dtype-bfloat16", cast(torch.bfloat16), "lower precision", late=True),
    Surgery("dtype-float64", cast(torch.float64), "never", late=True),
    Surgery("dtype-mixed", half_body, "lower precision", late=True),
    Surgery("dtype-channels-last", lambda p: p.module.to(memory_format=torch.channels_last), "never", late=True),
)

# -- modules around ----------------------------------------------------------------------------------


def own(make: Callable[[nn.Module, Patient], nn.Module]) -> Operation:
    """A module around everything that runs it as it is."""
    return lambda p: p.wrap(lambda inner: make(inner, p))


def worse(net: nn.Module) -> nn.Module:
    """A copy with other weights."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for value in other.parameters():
            if value.is_floating_point():
                value.mul_(1 + 0.2 * torch.randn_like(value))
    return other


def averaged(inner: nn.Module, p: Patient) -> nn.Module:
    """torch.optim.swa_utils."""
    from torch.optim.swa_utils import AveragedModel

    return AveragedModel(inner)


MODULES = (
    Surgery("wrap-data-parallel", own(lambda inner, p: nn.DataParallel(inner)), "never", late=True),
    Surgery("wrap-compile", own(lambda inner, p: torch.compile(inner, backend="eager")), "never", late=True),
    Surgery("wrap-averaged", own(averaged), "never", late=True),
    Surgery("wrap-trainer", own(lambda inner, p: networks.Trainer(inner, p.classes)), "never", late=True),
    Surgery("wrap-student", own(lambda inner, p: networks.Student(inner, worse(inner))), r"student|teacher", late=True),
    Surgery("wrap-sequential", own(lambda inner, p: nn.Sequential(inner)), "never", late=True),
)

# -- what is saved of a state dict -----------------------------------------------------------------


def tree(change: Callable[[Tree], Any]) -> Operation:
    """What is made of the state dict."""
    return lambda p: p.trees.append(change)


def prefixed(prefix: str) -> Operation:
    """Every name with something in front."""
    return tree(lambda state: {prefix + name: value for name, value in state.items()})


def other(state: Tree) -> Tree:
    """The same names with other weights."""
    torch.manual_seed(7)
    return {k: v + 0.3 * torch.randn_like(v) if v.is_floating_point() and v.ndim > 1 else v for k, v in state.items()}


def lightning(state: Tree) -> Tree:
    """A Lightning checkpoint."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": {
            **{f"model.{k}": v for k, v in state.items()},
            "criterion.weight": torch.rand(4),
            "val_acc.tp": torch.tensor(3),
        },
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(3)}}}],
    }


def ema(state: Tree) -> Tree:
    """Raw weights and their averages; the averages are what is evaluated."""
    return {"model": other(state), "model_ema": state, "epoch": 2}


def raw_and_teacher(state: Tree) -> Tree:
    """A student and its teacher."""
    return {"student": state, "teacher": other(state), "iteration": 9}


def moco(state: Tree) -> Tree:
    """Two encoders in one state dict."""
    queries = {f"encoder_q.{k}": v for k, v in state.items()}
    keys = {f"encoder_k.{k}": v for k, v in other(state).items()}
    return {"state_dict": {**queries, **keys}}


def apart(state: Tree) -> Tree:
    """Backbone and head in two dicts."""
    last = [k for k in state if k.split(".")[-2] in ("classifier", "out")]
    return {
        "backbone": {k: v for k, v in state.items() if k not in last},
        "head": {k.split(".")[-1]: v for k, v in state.items() if k in last},
    }


def numpied(state: Tree) -> Tree:
    """NumPy arrays."""
    return {k: v.numpy() if v.dtype != torch.bfloat16 else v for k, v in state.items()}


def sharded(state: Tree) -> Tree:
    """FSDP's wrapper inside names."""
    return {k.replace("features.", "features._fsdp_wrapped_module."): v for k, v in state.items()}


TREES = (
    Surgery("file-ddp", prefixed("module."), "never", late=True),
    Surgery("file-compiled", prefixed("_orig_mod."), "never", late=True),
    Surgery("file-backbone", prefixed("net.backbone."), "never", late=True),
    Surgery("file-fsdp", tree(sharded), "never", late=True),
    Surgery("file-checkpoint", tree(lambda s: {"state_dict": s, "epoch": 4, "optimizer": {"state": {}}}), "never", late=True),
    Surgery("file-lightning", tree(lightning), "never", late=True),
    Surgery("file-ema", tree(ema), r"ema|average", late=True),
    Surgery("file-teacher", tree(raw_and_teacher), r"student|teacher", late=True),
    Surgery("file-moco", tree(moco), r"encoder", late=True),
    Surgery("file-apart", tree(apart), r"head", late=True),
    Surgery("file-numpy", tree(numpied), "never", late=True),
    Surgery("file-shuffled", tree(lambda s: dict(sorted(s.items(), reverse=True))), "never", late=True),
    Surgery("file-no-counters", tree(lambda s: {k: v for k, v in s.items() if "batches" not in k}), "never", late=True),
    Surgery("file-class-weights", tree(lambda s: {**s, "class_weights": torch.rand(4), "loss.pos_weight": torch.rand(4)}), "never", late=True),
    Surgery("file-ordered-list", tree(lambda s: [v for k, v in s.items() if "batches" not in k]), r"inferred|order", late=True),
    Surgery("file-embedding", tree(lambda s: {**s, "embed.weight": torch.rand(5, 3)}), r"embed", late=True),
    Surgery("file-aux-head", tree(lambda s: {**s, "aux.weight": torch.rand(4, 9), "aux.bias": torch.rand(4)}), r"aux", late=True),
)  # fmt: skip

# -- quantised -------------------------------------------------------------------------------------


def dynamic(p: Patient) -> None:
    """Linear layers in eight bits."""
    p.module = torch.ao.quantization.quantize_dynamic(p.module, {nn.Linear}, dtype=torch.qint8)


def observed(p: Patient) -> None:
    """Observers as quantisation-aware training leaves them."""
    p.module.train()
    p.module.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    torch.ao.quantization.prepare_qat(p.module, inplace=True)
    p.module.eval()


QUANTISED = (
    Surgery("quantised-dynamic", dynamic, r"quanti", late=True),
    Surgery("quantised-aware", observed, r"quanti|fake|observ", late=True),
)
WEIGHTS = (*PARAMETRISATION, *DTYPES, *MODULES, *TREES, *QUANTISED)
