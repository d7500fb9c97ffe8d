"""What a DenseNet is: one frozen description from which names, shapes and costs follow.

No torch here.  Everything that handles DenseNet weights (the PyTorch module, the
ONNX graph, the recognition of foreign checkpoints) starts from a ``DenseNetConfig``.

The architecture: Huang, Liu, van der Maaten, Weinberger, *Densely Connected
Convolutional Networks*, arXiv 1608.06993, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any

from densenet.costs import costs
from densenet.fields import AXES, CHOICES, Axes, GlobalPool, Padding, Stem, StemPool, TransitionPool
from densenet.head import ACTIVATIONS, Head, HeadLayer, heads_of, layers_of
from densenet.module import Module
from densenet.modules import modules_of, tensors_of


@dataclass(frozen=True)
class DenseNetConfig:
    """One DenseNet, completely.  The defaults are densenet121 with 1000 classes.

    Attributes:
        growth_rate: new feature maps per layer, *k* in the paper.
        block_config: layers in each dense block.
        init_features: feature maps after the stem.
        bottleneck: whether a layer has a 1x1 convolution before its 3x3 one (DenseNet-B).
        bn_size: width of that bottleneck in multiples of the growth rate.
        compression: feature maps kept by a transition, as a fraction (theta; floor).
        stem: ``imagenet`` (a convolution, norm, ReLU, pooling), ``cifar`` (a convolution
            alone) or ``deep`` (three 3x3 convolutions with norms and ReLUs, pooling; timm).
        stem_kernel: size of the stem's first convolution; None for the usual: 7 in an
            ``imagenet`` stem, else 3.
        stem_stride: of that convolution; None for the usual: 1 in a ``cifar`` stem, else 2.
        stem_widths: output channels of the first two convolutions of a deep stem.
        stem_pool: ``max`` (3x3), ``zero_max``: in a border of zeros, as Keras' code pads, which is ``max`` where the
            activation gives nothing below zero; ``avg`` (3x3, such a border counts), ``none``, or ``blur``: max pool
            with stride 1, then a binomial 3x3 filter with stride 2 and reflected borders (timm's BlurPool2d).
        stem_pool_stride: of that pooling, but of ``blur``.
        transition_pool: ``avg``, ``max`` or ``blur``.
        transition_stride: window and stride of the transitions' average or max pooling.
        stem_ceil, transition_ceil: output size of that pooling rounded up, not down
            (Caffe's rule, and MXNet's ``pooling_convention: full``).
        padding: of the stem's convolution and pooling; ``same`` is TensorFlow's rule,
            which pads even inputs by one more at the bottom and right.
        transition_relu, final_relu: whether a ReLU follows the norm there.
        hidden_activation: what stands wherever the paper has a ReLU: ``leaky_relu:0.1``, ``gelu`` ...
            (:mod:`densenet.head` has the names).
        final_activation: what ``final_relu`` says follows the last norm; None for that of the rest.
        global_pool: ``avg``, ``max``, ``avgmax`` (their mean), ``catavgmax`` (both, concatenated)
            or ``catmaxavg`` (the maximum first).
        head: the layers between the pooled features and the classifier, a word each: ``norm``,
            ``linear:512``, ``relu`` ... (:mod:`densenet.head`).
        num_classes: 0 for a backbone, whose output is the pooled features, and where there are several heads.
        heads: several heads on the same pooled features, each with its name, classes and layers
            (:class:`densenet.head.Head`); empty for the plain network.
        in_channels: channels of the input image.
        eps: added to every variance by the batch norms.
        spatial_dims: 1 for signals, 2 for images, 3 for volumes.

    Sizes and strides are one number, or one for each spatial axis.

    Raises:
        ValueError: a field has a value no DenseNet has.
    """

    growth_rate: int = 32
    block_config: tuple[int, ...] = (6, 12, 24, 16)
    init_features: int = 64
    bottleneck: bool = True
    bn_size: int = 4
    compression: float = 0.5
    stem: Stem = "imagenet"
    stem_kernel: Axes | None = None
    stem_stride: Axes | None = None
    stem_widths: tuple[int, ...] = ()
    stem_pool: StemPool = "max"
    stem_pool_stride: Axes = 2
    transition_pool: TransitionPool = "avg"
    transition_stride: Axes = 2
    stem_ceil: bool = False
    transition_ceil: bool = False
    padding: Padding = "symmetric"
    transition_relu: bool = True
    final_relu: bool = True
    hidden_activation: str = "relu"
    final_activation: str | None = None
    global_pool: GlobalPool = "avg"
    head: tuple[str, ...] = ()
    num_classes: int = 1000
    heads: tuple[Head, ...] = ()
    in_channels: int = 3
    eps: float = 1e-5
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        self._normalise()
        for name in ("growth_rate", "init_features", "bn_size", "in_channels"):
            if not _is_int(getattr(self, name)) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        if not _is_int(self.num_classes) or self.num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {self.num_classes!r}")
        if self.head and not self.num_classes:
            raise ValueError("a head ends in a classifier: num_classes must not be 0")
        if self.heads and self.num_classes:
            raise ValueError("each of several heads has its own classes: num_classes must be 0")
        if not self.block_config or not all(_is_int(n) and n > 0 for n in self.block_config):
            raise ValueError(
                f"block_config needs a positive number of layers for each block, not {self.block_config!r}"
            )
        if not 0 < self.compression <= 1:
            raise ValueError(f"compression must be in (0, 1], not {self.compression!r}")
        if not 0 <= self.eps < 1:
            raise ValueError(f"eps must be in [0, 1), not {self.eps!r}")
        if self.spatial_dims not in (1, 2, 3):
            raise ValueError(f"spatial_dims must be 1, 2 or 3, not {self.spatial_dims!r}")
        if self.stem_widths and (self.stem != "deep" or len(self.stem_widths) != 2):
            raise ValueError("stem_widths are the two inner widths of a deep stem")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        self._check_pools()
        if min(w for w, _ in self.block_widths()) < 1:
            raise ValueError("compression leaves a transition without feature maps")

    def _normalise(self) -> None:
        """Every field in the one form that is compared."""
        object.__setattr__(self, "block_config", tuple(self.block_config))
        object.__setattr__(self, "stem_widths", tuple(self.stem_widths))
        object.__setattr__(self, "head", tuple(map(str, layers_of(self.head))))
        object.__setattr__(self, "heads", heads_of(self.heads))
        for name in ("hidden_activation", "final_activation"):
            layer = HeadLayer.parse(getattr(self, name) or self.hidden_activation)
            if not layer.is_activation:
                raise ValueError(f"{name} must be one of {', '.join(ACTIVATIONS)}, not {getattr(self, name)!r}")
            usual = name == "final_activation" and (str(layer) == self.hidden_activation or not self.final_relu)
            object.__setattr__(self, name, None if usual else str(layer))
        if self.stem_pool == "zero_max" and self.hidden_layer.is_positive:
            object.__setattr__(self, "stem_pool", "max")
        if self.stem == "deep" and not self.stem_widths:
            object.__setattr__(self, "stem_widths", (self.growth_rate, self.growth_rate))
        for name in AXES:
            object.__setattr__(self, name, self._axes_field(name))

    def _axes_field(self, name: str) -> Axes | None:
        """A size or stride, one number where all axes have the same, None where it is the usual."""
        value: Any = getattr(self, name)
        numbers = (value,) if value is None or _is_int(value) else tuple(value)
        if value is not None and (
            not all(_is_int(n) and n > 0 for n in numbers) or len(numbers) not in (1, self.spatial_dims)
        ):
            raise ValueError(f"{name} must be a positive integer, or one for each axis, not {value!r}")
        if name == "stem_kernel" and value is not None and not all(n % 2 for n in numbers):
            raise ValueError(f"stem_kernel must be odd, not {value!r}")
        uniform = numbers[0] if len(set(numbers)) == 1 else numbers
        usual = {"stem_kernel": 7 if self.stem == "imagenet" else 3, "stem_stride": 1 if self.stem == "cifar" else 2}
        return None if uniform == usual.get(name, uniform is None) else uniform

    def _check_pools(self) -> None:
        if self.stem_pool in ("zero_max", "avg") and (self.stem_ceil or self.padding == "same"):
            raise ValueError(f"stem_pool {self.stem_pool} is padded by one on all sides and rounds down")
        if self.spatial_dims != 2 and "blur" in (self.stem_pool, self.transition_pool):
            raise ValueError("blur pooling is defined for images, not for signals or volumes")
        for pool, stride in (("stem_pool", "stem_pool_stride"), ("transition_pool", "transition_stride")):
            if getattr(self, pool) == "blur" and getattr(self, stride) != 2:
                raise ValueError(f"blur pooling has stride 2, not {getattr(self, stride)!r}")

    # -- constructors -------------------------------------------------------------

    @classmethod
    def named(cls, name: str, **changes: Any) -> DenseNetConfig:
        """A network of the paper's table 1 (and timm's variants), e.g. ``densenet121``.

        Raises:
            ValueError: no network has that name.
        """
        if name not in NAMED:
            raise ValueError(f"no DenseNet is named {name!r}; there are {', '.join(NAMED)}")
        return replace(NAMED[name], **changes)

    @classmethod
    def cifar(cls, depth: int, growth_rate: int, *, bottleneck: bool = False, num_classes: int = 10) -> DenseNetConfig:
        """The paper's networks for 32x32 images (section 4.1), by depth L and growth rate k.

        Without ``bottleneck`` it is the basic DenseNet (16 initial feature maps, no
        compression), with it DenseNet-BC (2k initial feature maps, compression 0.5).

        Raises:
            ValueError: the depth does not divide into three equal blocks.
        """
        layers, rest = divmod(depth - 4, 6 if bottleneck else 3)
        if rest or layers < 1:
            raise ValueError(f"depth must be 4 + a multiple of {6 if bottleneck else 3}, not {depth}")
        return cls(
            growth_rate=growth_rate,
            block_config=(layers,) * 3,
            init_features=2 * growth_rate if bottleneck else 16,
            bottleneck=bottleneck,
            compression=0.5 if bottleneck else 1.0,
            stem="cifar",
            num_classes=num_classes,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DenseNetConfig:
        """The inverse of :meth:`to_dict`; absent fields take their defaults.

        Raises:
            ValueError: an unknown field, or a value no DenseNet has.
        """
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
        for field in fields(cls):
            if isinstance(field.default, bool) and not isinstance(values.get(field.name, True), bool):
                raise ValueError(f"{field.name} must be true or false, not {values[field.name]!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; those of later versions only where they are not the usual."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        values["heads"] = {head.name: head.to_dict() for head in self.heads}
        later: Mapping[str, Any] = {**AXES, "head": [], "heads": {}}
        later = {**later, "hidden_activation": "relu", "final_activation": None}
        return {k: v for k, v in values.items() if k not in later or v != later[k]}

    def telling(self) -> dict[str, Any]:
        """The fields that say what is not usual, and those everybody wants to see, as plain JSON values."""
        plain = DenseNetConfig().to_dict()
        always = ("growth_rate", "block_config", "init_features", "num_classes")
        return {name: value for name, value in self.to_dict().items() if name in always or value != plain.get(name)}

    # -- what follows from it ------------------------------------------------------

    @property
    def name(self) -> str:
        """The network's usual name: ``densenet121``, ``DenseNet-BC (L=100, k=12)``, or its numbers."""
        for name, config in NAMED.items():
            if (self.block_config, self.growth_rate) != (config.block_config, config.growth_rate):
                continue
            usual = {"head": (), "heads": (), "num_classes": config.num_classes, "in_channels": 3, "eps": config.eps}
            if replace(self, **usual) == config:  # type: ignore[arg-type]
                return name
        blocks = "-".join(map(str, self.block_config))
        if self.stem == "cifar" and len(set(self.block_config)) == 1 and len(self.block_config) == 3:
            kind = "DenseNet" + ("-" if self.bottleneck or self.compression < 1 else "")
            kind += ("B" if self.bottleneck else "") + ("C" if self.compression < 1 else "")
            return f"{kind} (L={self.depth}, k={self.growth_rate})"
        return f"DenseNet (blocks {blocks}, k={self.growth_rate})"

    @property
    def is_published(self) -> bool:
        """Whether it is one of the paper's networks for ImageNet, class for class."""
        return self in NAMED.values()

    @property
    def usual_size(self) -> int:
        """Height and width in pixels of the images such a network is usually given."""
        return 224 if self.first_stride != 1 else 32

    @property
    def first_kernel(self) -> Axes:
        """Size of the first convolution."""
        return self.stem_kernel or (7 if self.stem == "imagenet" else 3)

    @property
    def first_stride(self) -> Axes:
        """Stride of the first convolution."""
        return self.stem_stride or (1 if self.stem == "cifar" else 2)

    @property
    def stem_halves(self) -> bool:
        """Whether pooling follows the stem."""
        return self.stem != "cifar" and self.stem_pool != "none"

    def axes(self, value: Axes) -> tuple[int, ...]:
        """A size or stride for each spatial axis."""
        return (value,) * self.spatial_dims if isinstance(value, int) else tuple(value)

    @property
    def depth(self) -> int:
        """Layers as the paper counts them: convolutions on the longest path, and the classifier."""
        stem = 3 if self.stem == "deep" else 1
        return stem + sum(self.block_config) * (2 if self.bottleneck else 1) + len(self.block_config)

    @property
    def num_features(self) -> int:
        """Feature maps after the last block."""
        return self.block_widths()[-1][1]

    @property
    def classifier_features(self) -> int:
        """Length of the pooled feature vector, the input of the head or the classifier."""
        return self.num_features * (2 if self.global_pool.startswith("cat") else 1)

    @property
    def hidden_layer(self) -> HeadLayer:
        """What stands wherever the paper has a ReLU, but for the last."""
        return HeadLayer.parse(self.hidden_activation)

    @property
    def final_layer(self) -> HeadLayer:
        """What follows the last norm, where anything does."""
        return HeadLayer.parse(self.final_activation or self.hidden_activation)

    @property
    def head_layers(self) -> tuple[HeadLayer, ...]:
        """What stands between the pooled features and the classifier."""
        return layers_of(self.head)

    def branch(self, name: str) -> DenseNetConfig:
        """The plain network of one of several heads.

        Raises:
            ValueError: there is no such head.
        """
        heads = {head.name: head for head in self.heads}
        if name not in heads:
            raise ValueError(f"there is no head {name!r}; there are {', '.join(heads)}")
        return replace(self, heads=(), head=heads[name].layers, num_classes=heads[name].num_classes)

    def block_widths(self) -> list[tuple[int, int]]:
        """For each dense block its input and output feature maps."""
        widths, features = [], self.init_features
        for block, layers in enumerate(self.block_config):
            if block:
                features = int(features * self.compression)
            out = features + layers * self.growth_rate
            widths.append((features, out))
            features = out
        return widths

    def modules(self) -> Sequence[Module]:
        """Every module that owns tensors, in the order the network applies them."""
        return modules_of(self)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the library layout, in network order, without counters."""
        return dict(tensors_of(self))

    def parameters(self) -> int:
        """Number of trainable values (running statistics are not counted)."""
        return sum(prod(shape) for name, shape in self.tensors().items() if ".running_" not in name)

    def flops(self, size: int | tuple[int, ...] | None = None) -> int:
        """Cost of one image, counted as mmpretrain's table of models counts it.

        Convolution multiply-adds, 2 per batch-norm element, 1 per ReLU element, 1 per
        pooling input element; what follows global pooling is not counted.

        Args:
            size: input height and width in pixels; default 224 (32 for a ``cifar`` stem).
        """
        return sum(costs(self, size))

    def macs(self, size: int | tuple[int, ...] | None = None) -> int:
        """Multiply-adds of convolutions and linear layers only, for one image of ``size``."""
        return costs(self, size)[0] + sum(prod(m.shape) for m in self.modules() if m.kind == "linear")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


NAMED: Mapping[str, DenseNetConfig] = {
    "densenet121": DenseNetConfig(),
    "densenet169": DenseNetConfig(block_config=(6, 12, 32, 32)),
    "densenet201": DenseNetConfig(block_config=(6, 12, 48, 32)),
    "densenet161": DenseNetConfig(growth_rate=48, block_config=(6, 12, 36, 24), init_features=96),
    "densenet264": DenseNetConfig(block_config=(6, 12, 64, 48)),
    "densenetblur121d": DenseNetConfig(stem="deep", stem_pool="blur"),
    "densenet264d": DenseNetConfig(growth_rate=48, block_config=(6, 12, 64, 48), init_features=96, stem="deep"),
}
"""121 to 264: table 1 of the paper; the ``d`` networks: timm/models/densenet.py."""


SETTINGS = (
    *("stem_stride", "stem_pool", "stem_pool_stride", "transition_pool", "transition_stride"),
    *("stem_ceil", "transition_ceil", "padding"),
    *("transition_relu", "final_relu", "hidden_activation", "final_activation", "global_pool", "head", "eps"),
)
"""Config fields that tensors do not show."""
