"""Surgery around a network: heads, what comes behind the logits, what stands in front, global pooling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision import transforms

from tools.surgery import networks, parts
from tools.surgery.patient import Patient
from tools.surgery.record import Surgery

TV, TIMM, MONAI = ("torchvision",), ("timm",), ("monai",)
Operation = Callable[[Patient], None]


def reframed(cls: type[nn.Module]) -> Operation:
    """torchvision's network as a class with a forward of its own."""

    def operate(p: Patient) -> None:
        p.net.__class__ = cls

    return operate


# -- heads ---------------------------------------------------------------------------------------


def head(*made: Callable[[int, int], nn.Module]) -> Operation:
    """The head becomes these modules, each made from the number of features and of classes."""

    def operate(p: Patient) -> None:
        modules = [make(p.head.in_features, p.classes) for make in made]
        p.head = modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    return operate


def first(f: int, c: int) -> nn.Module:
    """The first of two linear layers."""
    return nn.Linear(f, 12)


def last(f: int, c: int) -> nn.Module:
    """The second of two."""
    return nn.Linear(12, c)


def only(f: int, c: int) -> nn.Module:
    """A linear layer alone."""
    return nn.Linear(f, c)


def plain(cls: Callable[..., nn.Module], *args: object, **kwargs: object) -> Callable[[int, int], nn.Module]:
    """A module that does not depend on the sizes."""
    return lambda f, c: cls(*args, **kwargs)


def conv_head(p: Patient) -> None:
    """A 1x1 convolution, then pooling."""
    conv = nn.Conv2d(p.width, p.classes, 1)
    p.module = nn.Sequential(p.features, nn.ReLU(), conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def conv_head_behind(p: Patient) -> None:
    """Pooling, then a 1x1 convolution."""
    conv = nn.Conv2d(p.width, p.classes, 1, bias=False)
    p.module = nn.Sequential(p.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), conv, nn.Flatten())


def own_class(p: Patient) -> None:
    """A class of one's own with a backbone and a head."""
    p.module = networks.Classifier(p.features, nn.Linear(p.width, p.classes))


def own_class_mlp(p: Patient) -> None:
    """The same with a head of two layers."""
    head = nn.Sequential(nn.Linear(p.width, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, p.classes))
    p.module = networks.Classifier(p.features, head)


def own_class_no_relu(p: Patient) -> None:
    """The same without the last ReLU."""
    p.module = networks.Classifier(p.features, nn.Linear(p.width, p.classes), relu=False)


def no_head(p: Patient) -> None:
    """Pooled features."""
    p.head = nn.Identity()


def features_alone(p: Patient) -> None:
    """The last feature maps."""
    p.module = p.features


MLP = r"head|layers between|hidden|classifier|Linear"
HEADS = (
    Surgery("head-mlp", head(first, plain(nn.ReLU), last), MLP),
    Surgery("head-mlp-dropout", head(plain(nn.Dropout, 0.3), first, plain(nn.ReLU), plain(nn.Dropout, 0.3), last), MLP),
    Surgery("head-mlp-norm", head(first, plain(nn.BatchNorm1d, 12), plain(nn.ReLU), last), MLP),
    Surgery("head-mlp-gelu", head(first, plain(nn.GELU), last), MLP),
    Surgery("head-mlp-tanh", head(first, plain(nn.Tanh), last), MLP),
    Surgery("head-mlp-prelu", head(first, plain(nn.PReLU), last), MLP),
    Surgery("head-two-linear", head(first, last), MLP),
    Surgery("head-three", head(first, plain(nn.ReLU), plain(nn.Linear, 12, 12), plain(nn.ReLU), last), MLP),
    Surgery("head-dropout", head(plain(nn.Dropout, 0.5), only), "never"),
    Surgery("head-norm-before", head(lambda f, c: nn.BatchNorm1d(f), only), MLP),
    Surgery("head-layer-norm", head(lambda f, c: nn.LayerNorm(f), only), MLP),
    Surgery("head-no-bias", head(lambda f, c: nn.Linear(f, c, bias=False)), "never"),
    Surgery("head-none", no_head, r"head|features"),
    Surgery("head-features-alone", features_alone, r"pool|head|features"),
    Surgery("head-conv", conv_head, r"convolution|head"),
    Surgery("head-conv-behind", conv_head_behind, r"convolution|head"),
    Surgery("head-cosine", head(parts.CosineLinear), r"CosineLinear|cosine|head|classifier"),
    Surgery("head-scaled", head(parts.ScaledLinear), r"ScaledLinear|code|behind the classifier"),
    Surgery("head-joined", head(lambda f, c: parts.TwoHeads(f, c, True)), r"head"),
    Surgery("head-two", head(lambda f, c: parts.TwoHeads(f, c, False)), r"head|results"),
    Surgery("head-sigmoid", head(only, plain(nn.Sigmoid)), r"Sigmoid|behind (the )?(logits|classifier)"),
    Surgery("head-softmax", head(only, plain(nn.Softmax, 1)), r"Softmax|behind (the )?(logits|classifier)"),
    Surgery(
        "head-udacity",
        head(first, plain(nn.ReLU), plain(nn.Dropout, 0.2), last, plain(nn.LogSoftmax, 1)),
        r"LogSoftmax|behind (the )?(logits|classifier)",
    ),
    Surgery("head-relu", head(only, plain(nn.ReLU)), r"behind (the )?(logits|classifier)|ReLU behind"),
    Surgery("head-single", head(lambda f, c: nn.Linear(f, 1)), "never"),
    Surgery("head-own-class", own_class, "never"),
    Surgery("head-own-class-mlp", own_class_mlp, MLP),
    Surgery("head-own-no-relu", own_class_no_relu, r"final_relu|ReLU", TV + TIMM, mend={"final_relu": False}),
)

# -- behind the logits ---------------------------------------------------------------------------


def behind(make: Callable[[], nn.Module]) -> Operation:
    """A module that takes the logits."""
    return lambda p: p.wrap(lambda inner: nn.Sequential(inner, make()))


BACK = r"behind (the )?(logits|classifier|network)"
BEHIND = (
    Surgery("behind-softmax", behind(lambda: nn.Softmax(1)), rf"Softmax|{BACK}"),
    Surgery("behind-sigmoid", behind(nn.Sigmoid), rf"Sigmoid|{BACK}"),
    Surgery("behind-log-softmax", behind(lambda: nn.LogSoftmax(1)), rf"LogSoftmax|{BACK}"),
    Surgery("behind-relu", behind(nn.ReLU), BACK),
    Surgery("behind-tanh", behind(nn.Tanh), BACK),
    Surgery("behind-hardtanh", behind(nn.Hardtanh), BACK),
    Surgery("behind-l2", behind(parts.L2Normalize), BACK),
    Surgery("behind-scale", behind(lambda: parts.Scale(1 / 1.7)), BACK),
    Surgery("behind-argmax", behind(parts.ArgMax), rf"ArgMax|argmax|{BACK}"),
    Surgery("behind-slice", behind(lambda: parts.First(2)), BACK),
    Surgery("behind-linear", lambda p: p.wrap(lambda inner: nn.Sequential(inner, nn.Linear(p.classes, 3))), MLP),
    Surgery("behind-own-forward", reframed(networks.Inside), rf"code|{BACK}", TV),
    Surgery("behind-functional", lambda p: p.wrap(networks.Probabilities), rf"Softmax|softmax|code|{BACK}"),
)

# -- in front --------------------------------------------------------------------------------------


def front(make: Callable[[], nn.Module], channels: int = 3, channels_last: bool = False) -> Operation:
    """A module that the images go through first."""

    def operate(p: Patient) -> None:
        if p.channels != 3 or p.channels_last:
            raise LookupError("the images have another form already")
        p.wrap(lambda inner: nn.Sequential(make(), inner))
        p.channels, p.channels_last = channels, channels_last

    return operate


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
AHEAD = r"before (the )?(network|stem|it)|in front|images (must|go|are)|normalis|prepar"
FRONT = (
    Surgery("front-normalize", front(lambda: parts.Normalize(MEAN, STD)), AHEAD),
    Surgery("front-normalize-gray", front(lambda: parts.Normalize([0.5], [0.25])), AHEAD),
    Surgery("front-normalize-transform", front(lambda: transforms.Normalize(MEAN, STD)), AHEAD),
    Surgery("front-standardise", front(lambda: parts.Standardise(0.4, 0.3)), AHEAD),
    Surgery("front-div255", front(lambda: parts.Scale(1 / 255)), AHEAD),
    Surgery("front-minus-one-to-one", front(lambda: parts.Scale(2, -1)), AHEAD),
    Surgery("front-bgr", front(parts.FlipChannels), AHEAD),
    Surgery("front-channels-last", front(parts.FromChannelsLast, channels_last=True), AHEAD),
    Surgery("front-zero-pad", front(lambda: nn.ZeroPad2d(5)), AHEAD),
    Surgery("front-reflect-pad", front(lambda: nn.ReflectionPad2d(4)), AHEAD),
    Surgery("front-avgpool", front(lambda: nn.AvgPool2d(2, ceil_mode=True)), AHEAD),
    Surgery("front-upsample", front(lambda: nn.Upsample(scale_factor=2.0)), AHEAD),
    Surgery("front-resize", front(lambda: parts.Resize(96)), AHEAD),
    Surgery("front-gray", front(parts.GrayToRGB, channels=1), AHEAD),
    Surgery("front-adapter", front(lambda: nn.Conv2d(1, 3, 1), channels=1), rf"adapter|{AHEAD}"),
    Surgery("front-norm", front(lambda: nn.BatchNorm2d(3)), AHEAD),
    Surgery("front-crop", front(parts.Crop), AHEAD),
    Surgery("front-clamp", front(parts.Clamp), AHEAD),
    Surgery("front-dropout", front(lambda: nn.Dropout(0.1)), "never"),
    Surgery("front-instance-norm", front(lambda: nn.InstanceNorm2d(3)), AHEAD),
)

# -- global pooling ------------------------------------------------------------------------------


def pooled(make: Callable[[], nn.Module], times: int = 1) -> Operation:
    """The network as a Sequential with another global pooling."""

    def operate(p: Patient) -> None:
        head = nn.Linear(times * p.width, p.classes)
        p.module = nn.Sequential(p.features, nn.ReLU(), make(), nn.Flatten(), head)

    return operate


def replaced_pool(make: Callable[[], nn.Module]) -> Operation:
    """The pooling module of a network that has one."""

    def operate(p: Patient) -> None:
        if p.framework == "monai":
            p.net.class_layers.pool = make()
        else:
            p.net.global_pool = nn.Sequential(make(), nn.Flatten())

    return operate


def maps(p: Patient) -> torch.Size:
    """Shape of the last feature maps of one image."""
    with torch.no_grad():
        return p.features.eval()(torch.zeros(1, p.channels, *p.size)).shape[1:]


def flat(p: Patient) -> None:
    """Flattened without pooling."""
    p.module = nn.Sequential(p.features, nn.ReLU(), nn.Flatten(), nn.Linear(maps(p).numel(), p.classes))


def window(p: Patient) -> None:
    """An average over a window of the size that the last feature maps have, as nn.AvgPool2d(7)."""
    pooled(lambda: nn.AvgPool2d(tuple(maps(p)[1:])))(p)


def timm_pool(kind: str) -> Operation:
    """timm's own choice of pooling."""

    def operate(p: Patient) -> None:
        p.net.reset_classifier(p.classes, kind)

    return operate


POOL = r"global_pool|pooling|pool"
POOLING = (
    Surgery("pool-max", pooled(lambda: nn.AdaptiveMaxPool2d(1)), POOL, mend={"global_pool": "max"}),
    Surgery("pool-max-module", replaced_pool(lambda: nn.AdaptiveMaxPool2d(1)), POOL, TIMM + MONAI),
    Surgery("pool-max-own-forward", reframed(networks.GlobalMax), POOL, TV, mend={"global_pool": "max"}),
    Surgery("pool-max-timm", timm_pool("max"), POOL, TIMM, mend={"global_pool": "max"}),
    Surgery("pool-avgmax-timm", timm_pool("avgmax"), POOL, TIMM, mend={"global_pool": "avgmax"}),
    Surgery("pool-catavgmax-timm", timm_pool("catavgmax"), POOL, TIMM, mend={"global_pool": "catavgmax"}),
    Surgery("pool-sum", pooled(parts.SumPool), POOL),
    Surgery("pool-gem", pooled(parts.GeM), rf"GeM|{POOL}"),
    Surgery("pool-fastai", pooled(parts.AdaptiveConcatPool2d, 2), rf"maxima|{POOL}"),
    Surgery("pool-mean", pooled(parts.MeanPool), POOL),
    Surgery("pool-logsumexp", pooled(parts.LogSumExpPool), POOL),
    Surgery("pool-window", window, POOL),
    Surgery("pool-two-by-two", pooled(lambda: nn.AdaptiveAvgPool2d(2), 4), POOL),
    Surgery("pool-flat", flat, POOL),
    Surgery("pool-no-relu-sequential", lambda p: setattr(p, "module", nn.Sequential(
        p.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(p.width, p.classes))), r"final_relu|ReLU",
        TV + TIMM, mend={"final_relu": False}),
)  # fmt: skip

# -- several at once -----------------------------------------------------------------------------


def ensemble(p: Patient) -> None:
    """The mean of two networks."""
    import copy

    other = copy.deepcopy(p.module)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(1 + 0.1 * torch.randn_like(value))
    p.wrap(lambda inner: networks.Ensemble([inner, other]))


AGAIN = r"averag|one run|ensemble|augment|code|nets\."
MANY = (
    Surgery("many-flip", lambda p: p.wrap(networks.FlipAveraged), AGAIN, late=True),
    Surgery("many-two-scales", lambda p: p.wrap(networks.TwoScales), AGAIN, late=True),
    Surgery("many-ensemble", ensemble, AGAIN, late=True),
    Surgery("many-outputs", lambda p: p.wrap(networks.WithFeatures), r"output|results|features|code|behind", late=True),
)
AROUND = (*HEADS, *BEHIND, *FRONT, *POOLING, *MANY)
