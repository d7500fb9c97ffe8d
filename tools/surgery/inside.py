"""Surgery inside a network: its stem, its dense layers and transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BlurPool2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tools.surgery import networks, parts
from tools.surgery.around import reframed
from tools.surgery.patient import Patient
from tools.surgery.record import Surgery

TV, TIMM, MONAI = ("torchvision",), ("timm",), ("monai",)
SPLIT = TV + MONAI
"""Whose ReLUs are modules of their own."""
Operation = Callable[[Patient], None]

# -- stem ----------------------------------------------------------------------------------------


def stem(**changes: Any) -> Operation:
    """The first convolution with other arguments."""

    def operate(p: Patient) -> None:
        old = p.features.conv0
        usual = {"kernel_size": 7, "stride": 2, "padding": 3, "bias": False}
        p.features.conv0 = nn.Conv2d(changes.get("in_channels", old.in_channels), old.out_channels, **{
            **usual, **{name: value for name, value in changes.items() if name != "in_channels"}})  # fmt: skip
        p.channels = p.features.conv0.in_channels

    return operate


def stem_pool(make: Callable[[], nn.Module]) -> Operation:
    """Another pooling behind the stem."""

    def operate(p: Patient) -> None:
        p.features.pool0 = make()

    return operate


def both(*operations: Operation) -> Operation:
    """One after the other."""

    def operate(p: Patient) -> None:
        for operation in operations:
            operation(p)

    return operate


def drop(*names: str) -> Operation:
    """Modules of the stem become nothing."""

    def operate(p: Patient) -> None:
        for name in names:
            setattr(p.features, name, nn.Identity())

    return operate


def stem_same(p: Patient) -> None:
    """TensorFlow's padding."""
    p.features.conv0 = parts.SameConv2d(3, p.features.conv0.out_channels, 7, 2, bias=False)


def renumbered(p: Patient) -> None:
    """features = nn.Sequential(new conv, *rest), as maintainers advise."""
    p.net.features = nn.Sequential(*p.features)
    p.module = p.module if p.module is not p.net else p.net


STRIDE, WINDOW, ACT, PAD = r"stride|stem_stride", r"pool", r"ReLU|activation|relu", r"padding|pad"
STEM = (
    Surgery("stem-stride1", stem(stride=1), STRIDE, mend={"stem_stride": 1}),
    Surgery("stem-stride4", stem(stride=4), STRIDE, mend={"stem_stride": 4}),
    Surgery("stem-stride-axes", stem(stride=(1, 2)), STRIDE, mend={"stem_stride": (1, 2)}),
    Surgery("stem-kernel3", stem(kernel_size=3, padding=1), STRIDE, mend={"stem_stride": 2}),
    Surgery("stem-kernel5", stem(kernel_size=5, padding=2), STRIDE, mend={"stem_stride": 2}),
    Surgery("stem-kernel-even", stem(kernel_size=4, padding=1), rf"{STRIDE}|{PAD}"),
    Surgery("stem-channels1", stem(in_channels=1), "never"),
    Surgery("stem-channels2", stem(in_channels=2), "never"),
    Surgery("stem-channels4", stem(in_channels=4), "never"),
    Surgery("stem-channels6", stem(in_channels=6), "never"),
    Surgery("stem-padding0", stem(padding=0), PAD),
    Surgery("stem-dilation", stem(dilation=2, padding=6), r"dilat|strides"),
    Surgery("stem-reflect", stem(padding_mode="reflect"), PAD),
    Surgery("stem-bias", stem(bias=True), "never"),
    Surgery("stem-same", stem_same, PAD),
    Surgery("stem-no-pool", stem_pool(nn.Identity), WINDOW, mend={"stem_pool": "none"}),
    Surgery("stem-avgpool", stem_pool(lambda: nn.AvgPool2d(3, 2, 1)), WINDOW, mend={"stem_pool": "avg"}),
    Surgery("stem-pool-ceil", stem_pool(lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True)), WINDOW),
    Surgery("stem-pool-ceil-0", stem_pool(lambda: nn.MaxPool2d(3, 2, 0, ceil_mode=True)), WINDOW),
    Surgery("stem-pool-padding0", stem_pool(lambda: nn.MaxPool2d(3, 2, 0)), WINDOW),
    Surgery("stem-pool-kernel2", stem_pool(lambda: nn.MaxPool2d(2, 2)), WINDOW),
    Surgery("stem-pool-stride1", stem_pool(lambda: nn.MaxPool2d(3, 1, 1)), WINDOW, mend={"stem_pool_stride": 1}),
    Surgery("stem-pool-dilation", stem_pool(lambda: nn.MaxPool2d(3, 2, 1, dilation=2)), WINDOW),
    Surgery("stem-pool-twice", stem_pool(lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1))), WINDOW),
    Surgery("stem-no-norm", drop("norm0"), r"norm|ReLU", SPLIT),
    Surgery("stem-no-relu", drop("relu0"), ACT, SPLIT),
    Surgery(
        "stem-cifar", both(stem(kernel_size=3, stride=1, padding=1), drop("norm0", "pool0")), rf"{STRIDE}|{ACT}", TIMM
    ),
    Surgery(
        "stem-cifar-bare",
        both(stem(kernel_size=3, stride=1, padding=1), drop("norm0", "relu0", "pool0")),
        rf"{STRIDE}|{ACT}",
        SPLIT,
    ),
    Surgery(
        "stem-cifar-norm",
        both(stem(kernel_size=3, stride=1, padding=1), drop("pool0")),
        rf"{STRIDE}|{WINDOW}",
        mend={"stem_stride": 1, "stem_pool": "none"},
    ),
    Surgery("stem-renumbered", renumbered, r"inferred|order", SPLIT, late=True),
)

# -- layers and transitions ------------------------------------------------------------------------


def act(make: Callable[[], nn.Module], everywhere: bool) -> Operation:
    """Another activation in place of the ReLUs, or of one of them in a layer."""

    def operate(p: Patient) -> None:
        if p.framework == "timm":
            norms = [m for m in p.net.modules() if hasattr(m, "act")]
            for norm in norms if everywhere else [p.layers()[0].norm2]:
                norm.act = make()
        elif everywhere:
            p.replace(lambda m: isinstance(m, nn.ReLU), lambda m: make())
        else:
            p.layers()[0].relu2 = make()

    return operate


def transition_pool(make: Callable[[int], nn.Module], count: int = 9) -> Operation:
    """Another pooling in the transitions, all or the first."""

    def operate(p: Patient) -> None:
        for transition in p.transitions()[:count]:
            transition.pool = make(transition.conv.out_channels)

    return operate


def norms(make: Callable[[Any], nn.Module]) -> Operation:
    """Other norms."""
    return lambda p: p.replace(lambda m: isinstance(m, nn.BatchNorm2d), make)


def set_norms(**values: Any) -> Operation:
    """Norms with other arguments."""

    def operate(p: Patient) -> None:
        for norm in p.norms():
            for name, value in values.items():
                setattr(norm, name, value)

    return operate


def eps_apart(p: Patient) -> None:
    """An eps for each."""
    for i, norm in enumerate(p.norms()):
        norm.eps = 1e-3 if i % 2 else 1e-5


def relu_gone(p: Patient) -> None:
    """A transition without its ReLU."""
    for transition in p.transitions():
        if p.framework == "timm":
            transition.norm.act = nn.Identity()
        else:
            transition.relu = nn.Identity()


def dilated(p: Patient) -> None:
    """The last block dilated, its transition without stride: as for segmentation."""
    for layer in p.blocks()[-1].children():
        conv = getattr(layer, "layers", layer).conv2
        conv.dilation, conv.padding = (2, 2), (2, 2)
    p.transitions()[-1].pool = nn.Identity()


def conv2(**changes: Any) -> Operation:
    """The first layer's second convolution with other arguments."""

    def operate(p: Patient) -> None:
        layer = p.layers()[0]
        old = layer.conv2
        layer.conv2 = nn.Conv2d(
            old.in_channels, old.out_channels, **{"kernel_size": 3, "padding": 1, "bias": False, **changes}
        )

    return operate


def with_excitation(p: Patient) -> None:
    """Squeeze and excitation behind every block."""
    for name, block in list(p.features.named_children()):
        if name.startswith("denseblock"):
            width = p.features[list(p.features._modules).index(name) + 1].norm if name != last_block(p) else None
            channels = p.width if width is None else width.num_features
            setattr(p.features, name, nn.Sequential(block, parts.SqueezeExcite(channels)))


def last_block(p: Patient) -> str:
    """The last block's name."""
    return [name for name, _ in p.features.named_children() if name.startswith("denseblock")][-1]


def block_class(cls: type) -> Operation:
    """Blocks as a class with a forward of its own."""

    def operate(p: Patient) -> None:
        for block in p.blocks():
            block.__class__ = cls

    return operate


def layer_class(cls: type) -> Operation:
    """The first block's layers as a class with a forward of its own."""

    def operate(p: Patient) -> None:
        for layer in p.blocks()[0].children():
            layer.__class__ = cls

    return operate


def dropout(p: Patient) -> None:
    """Dropout in the layers, as it is made by their classes."""
    for layer in p.layers():
        layer.drop_rate = 0.2
    if p.framework == "monai":
        for layer in p.layers():
            layer.add_module("dropout", nn.Dropout2d(0.2))


def checkpointing(p: Patient) -> None:
    """Memory-efficient layers."""
    for layer in p.layers():
        for name in ("memory_efficient", "grad_checkpointing"):
            if hasattr(layer, name):
                setattr(layer, name, True)


def frozen(norm: nn.BatchNorm2d) -> nn.Module:
    """torchvision's norm of detection networks."""
    made = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    made.load_state_dict({k: v.clone() for k, v in norm.state_dict().items() if "batches" not in k})
    return made


def fused(p: Patient) -> None:
    """The stem's norm folded into its convolution."""
    p.features.conv0 = torch.nn.utils.fusion.fuse_conv_bn_eval(p.features.conv0.eval(), p.features.norm0.eval())
    p.features.norm0 = nn.Identity()


def extra_conv(p: Patient) -> None:
    """A convolution behind the last norm."""
    p.features.add_module("conv5", nn.Conv2d(p.width, p.width, 1, bias=False))


def extra_block(p: Patient) -> None:
    """A pooling behind the last block."""
    p.features.add_module("pool5", nn.MaxPool2d(2))


def hooked(p: Patient) -> None:
    """A hook that changes what a transition gives."""
    p.transitions()[0].register_forward_hook(networks.double)


FIXED = r"code|class|as usual"
BODY = (
    Surgery("body-no-last-relu", reframed(networks.NoFinalReLU), r"final_relu|ReLU", TV, mend={"final_relu": False}),
    Surgery("body-no-transition-relu", relu_gone, ACT, mend={"transition_relu": False}),
    Surgery("body-no-relu", act(nn.Identity, everywhere=False), ACT),
    Surgery("body-leaky", act(lambda: nn.LeakyReLU(0.1), everywhere=True), ACT),
    Surgery("body-leaky-one", act(lambda: nn.LeakyReLU(0.1), everywhere=False), ACT),
    Surgery("body-gelu", act(nn.GELU, everywhere=True), ACT),
    Surgery("body-silu", act(nn.SiLU, everywhere=True), ACT),
    Surgery("body-elu", act(nn.ELU, everywhere=True), ACT),
    Surgery("body-relu6", act(nn.ReLU6, everywhere=True), ACT),
    Surgery("body-prelu", act(nn.PReLU, everywhere=True), ACT),
    Surgery("body-dropout", dropout, "never"),
    Surgery("body-blur", transition_pool(parts.BlurPool), WINDOW),
    Surgery("body-blur-timm", transition_pool(BlurPool2d), WINDOW, TIMM),
    Surgery("body-max", transition_pool(lambda c: nn.MaxPool2d(2)), WINDOW, mend={"transition_pool": "max"}),
    Surgery("body-max-one", transition_pool(lambda c: nn.MaxPool2d(2), 1), WINDOW),
    Surgery("body-pool-axes", transition_pool(lambda c: nn.AvgPool2d((1, 2))), WINDOW),
    Surgery("body-pool-axes-one", transition_pool(lambda c: nn.AvgPool2d((1, 2)), 1), WINDOW),
    Surgery("body-pool-none", transition_pool(lambda c: nn.Identity()), WINDOW, mend={"transition_stride": 1}),
    Surgery("body-pool-none-one", transition_pool(lambda c: nn.Identity(), 1), WINDOW),
    Surgery("body-pool-kernel3", transition_pool(lambda c: nn.AvgPool2d(3, 2, 1)), WINDOW),
    Surgery("body-pool-exclude", transition_pool(lambda c: nn.AvgPool2d(3, 2, 1, count_include_pad=False)), WINDOW),
    Surgery("body-pool-padded", transition_pool(lambda c: nn.AvgPool2d(2, 2, 1)), WINDOW),
    Surgery(
        "body-pool-ceil",
        transition_pool(lambda c: nn.AvgPool2d(2, 2, ceil_mode=True)),
        WINDOW,
        mend={"transition_ceil": True},
    ),
    Surgery("body-pool-divisor", transition_pool(lambda c: nn.AvgPool2d(2, divisor_override=3)), WINDOW),
    Surgery("body-pool-strided-conv", transition_pool(lambda c: nn.Conv2d(c, c, 2, 2)), r"conv"),
    Surgery("body-dilated", dilated, r"dilat|strides"),
    Surgery("body-dilated-one", conv2(dilation=2, padding=2), r"dilat|strides"),
    Surgery("body-grouped", conv2(groups=2), r"group"),
    Surgery("body-circular", conv2(padding_mode="circular"), PAD),
    Surgery("body-conv-bias", conv2(bias=True), "never"),
    Surgery("body-excitation", with_excitation, r"fc1|excit"),
    Surgery("body-reversed", block_class(networks.ReversedBlock), rf"order|concat|{FIXED}", TV),
    Surgery("body-halved", layer_class(networks.HalvedLayer), rf"{FIXED}|HalvedLayer", TV),
    Surgery("body-late-norm", layer_class(networks.LateNormLayer), rf"{FIXED}|LateNormLayer|ReLU", TV),
    Surgery("body-checkpointing", checkpointing, "never", TV + TIMM),
    Surgery("body-extra-conv", extra_conv, r"conv5"),
    Surgery("body-extra-pool", extra_block, WINDOW),
    Surgery("body-hook", hooked, r"hook|nothing", late=True),
)
NORM = r"norm"
NORMS = (
    Surgery("norm-frozen", norms(frozen), "eps", SPLIT, late=True),
    Surgery("norm-sync", lambda p: setattr(p, "module", nn.SyncBatchNorm.convert_sync_batchnorm(p.module)), "never", SPLIT, late=True),
    Surgery("norm-group", norms(lambda n: nn.GroupNorm(1, n.num_features)), NORM, SPLIT),
    Surgery("norm-instance", norms(lambda n: nn.InstanceNorm2d(n.num_features, affine=True, track_running_stats=True)), NORM, SPLIT),
    Surgery("norm-instance-bare", norms(lambda n: nn.InstanceNorm2d(n.num_features)), NORM, SPLIT),
    Surgery("norm-eps", set_norms(eps=1e-3), r"eps", mend={"eps": 1e-3}),
    Surgery("norm-eps-large", set_norms(eps=0.1), r"eps", mend={"eps": 0.1}),
    Surgery("norm-eps-apart", eps_apart, r"eps"),
    Surgery("norm-momentum", set_norms(momentum=0.01), "never"),
    Surgery("norm-bare", norms(lambda n: nn.BatchNorm2d(n.num_features, affine=False)), NORM, SPLIT),
    Surgery("norm-batch-statistics", norms(lambda n: nn.BatchNorm2d(n.num_features, track_running_stats=False)), NORM, SPLIT),
    Surgery("norm-last-gone", lambda p: setattr(p.features, "norm5", nn.Identity()), NORM, SPLIT),
    Surgery("norm-stem-fused", fused, r"fold|norm", SPLIT, late=True),
)  # fmt: skip
INSIDE = (*STEM, *BODY, *NORMS)
