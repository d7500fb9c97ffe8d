"""The PyTorch module.  Its ``state_dict`` is the library layout.

Written to be read beside the paper (arXiv 1608.06993): a layer is the composite
function H of section 3 (norm, ReLU, convolution; twice with a bottleneck), a block
concatenates what its layers make, a transition compresses and halves.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from densenet.config import DenseNetConfig
from densenet.head import HeadLayer

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
PADS: dict[int, Any] = {1: nn.ConstantPad1d, 2: nn.ConstantPad2d, 3: nn.ConstantPad3d}


class Features(nn.Module):
    """A DenseNet up to its pooled features, which all heads of a network share.

    Args:
        config: the architecture.
        drop_rate: dropout after each layer's last convolution, while training.
        memory_efficient: recompute the concatenations and bottlenecks in the backward
            pass instead of keeping them (arXiv 1707.06990); slower, far less memory.
    """

    def __init__(self, config: DenseNetConfig, *, drop_rate: float = 0.0, memory_efficient: bool = False) -> None:
        super().__init__()
        self.config = config
        self.stem = STEMS[config.stem](config)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        widths = config.block_widths()
        for b, layers in enumerate(config.block_config):
            self.blocks.append(_Block(config, widths[b][0], layers, drop_rate, memory_efficient))
            last = b + 1 == len(widths)
            # A place holder after the last block keeps forward() one loop that TorchScript can unroll.
            self.transitions.append(nn.Identity() if last else _Transition(config, widths[b][1], widths[b + 1][0]))
        self.norm = NORMS[config.spatial_dims](config.num_features, eps=config.eps)
        self.act = _activation(config.final_layer) if config.final_relu else nn.Identity()
        self.global_pool: str = config.global_pool
        self.positions: list[int] = list(range(2, config.spatial_dims + 2))

    def _initialise(self) -> None:
        """He initialisation, as the paper's code does it (liuzhuang13/DenseNet, models/densenet.lua)."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature maps (N, num_features, h, w), after the final norm and ReLU."""
        x = self.stem(x)
        for block, transition in zip(self.blocks, self.transitions):
            x = transition(block(x))
        x = self.act(self.norm(x))
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Global pooling: feature maps (N, C, h, w) to vectors (N, classifier_features)."""
        over = self.positions
        if self.global_pool == "avg":
            return x.mean(over)
        if self.global_pool == "max":
            return x.amax(over)
        if self.global_pool == "avgmax":
            return 0.5 * (x.mean(over) + x.amax(over))
        if self.global_pool == "catavgmax":
            return torch.cat([x.mean(over), x.amax(over)], 1)
        return torch.cat([x.amax(over), x.mean(over)], 1)

    @torch.jit.unused
    def extract_feat(self, x: Tensor, out_indices: Sequence[int] = (-1,)) -> tuple[Tensor, ...]:
        """Feature maps of the chosen stages, as mmpretrain's ``DenseNet(out_indices=...)`` returns them.

        A stage is a dense block and what follows it: its transition, or for the last
        block the final norm and ReLU.  Negative indices count from the end.

        Raises:
            IndexError: there is no such stage.
        """
        stages = len(self.blocks)
        wanted = []
        for index in out_indices:
            if not -stages <= index < stages:
                raise IndexError(f"stage {index} of a network with {stages} stages")
            wanted.append(index % stages)
        outputs = []
        x = self.stem(x)
        for stage, (block, transition) in enumerate(zip(self.blocks, self.transitions)):
            x = transition(block(x))
            if stage + 1 == stages:
                x = self.act(self.norm(x))
            if stage in wanted:
                outputs.append(x)
        return tuple(outputs)


class DenseNet(Features):
    """A DenseNet for the given config, with the official initialisation.

    Args as for :class:`Features`.

    Shape:
        input (N, in_channels, H, W) float; output (N, num_classes) logits, or
        (N, classifier_features) pooled features where ``num_classes`` is 0.

    Raises:
        ValueError: the config has several heads, which are a :class:`MultiHeadDenseNet`.
    """

    def __init__(self, config: DenseNetConfig, *, drop_rate: float = 0.0, memory_efficient: bool = False) -> None:
        if config.heads:
            raise ValueError("a network with several heads is a MultiHeadDenseNet")
        super().__init__(config, drop_rate=drop_rate, memory_efficient=memory_efficient)
        self.head, self.classifier = _head(config)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of a batch of images."""
        logits: Tensor = self.classifier(self.head(self.pool(self.forward_features(x))))
        return logits


class MultiHeadDenseNet(Features):
    """A DenseNet with several heads on its pooled features, for a config with ``heads``.

    Args as for :class:`Features`.

    Shape:
        input (N, in_channels, H, W) float; output a dict of logits (N, classes) by the heads' names, in their order.
    """

    def __init__(self, config: DenseNetConfig, *, drop_rate: float = 0.0, memory_efficient: bool = False) -> None:
        super().__init__(config, drop_rate=drop_rate, memory_efficient=memory_efficient)
        self.heads = nn.Module()
        for name in (head.name for head in config.heads):
            layers, classifier = _head(config.branch(name))
            # Past add_module, which refuses names that nn.Module has itself, such as type.
            self.heads._modules[name] = nn.Sequential(OrderedDict(head=layers, classifier=classifier))
        self._initialise()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits (N, classes) of a batch of images, by head."""
        features = self.pool(self.forward_features(x))
        return {name: head(features) for name, head in self.heads.named_children()}


def _activation(layer: HeadLayer) -> nn.Module:
    """An activation's module, which has no tensors."""
    return FUNCTIONS[layer.kind](layer.value)


FUNCTIONS: dict[str, Callable[[Any], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU(approximate="tanh"),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "tanh": lambda _: nn.Tanh(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "softplus": lambda _: nn.Softplus(),
    "hardswish": lambda _: nn.Hardswish(),
    "hardsigmoid": lambda _: nn.Hardsigmoid(),
    "selu": lambda _: nn.SELU(),
    "softsign": lambda _: nn.Softsign(),
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
}


def _head(config: DenseNetConfig) -> tuple[nn.Module, nn.Module]:
    """The layers between the pooled features and the classifier, and that."""
    width = [config.classifier_features, *(layer.width for layer in config.head_layers if layer.width)][-1]
    classifier = nn.Linear(width, config.num_classes) if config.num_classes else nn.Identity()
    return nn.Sequential(*_layers(config)), classifier


def _layers(config: DenseNetConfig) -> Iterator[nn.Module]:
    width = config.classifier_features
    for layer in config.head_layers:
        if layer.kind == "linear":
            yield nn.Sequential(OrderedDict(linear=nn.Linear(width, layer.width, bias=layer.bias)))
            width = layer.width
        elif layer.kind == "norm":
            yield nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(width, eps=config.eps)))
        else:
            yield _activation(layer)


class _Stem(nn.Module):
    """What all stems share: their first convolution and their pooling, padded as the config says."""

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__()
        self.same = config.padding == "same"
        self.same_pool = self.same and config.stem_halves and config.stem_pool == "max"
        self.kernel, self.stride = list(config.axes(config.first_kernel)), list(config.axes(config.first_stride))
        self.window, self.step = [3] * config.spatial_dims, list(config.axes(config.stem_pool_stride))
        self.act = _activation(config.hidden_layer)
        self.pool: nn.Module = nn.Identity()
        if config.stem_halves:
            pool = (AVG_POOLS if config.stem_pool == "avg" else MAX_POOLS)[config.spatial_dims]
            if config.stem_pool == "blur":
                self.pool = nn.Sequential(pool(3, stride=1, padding=1), BlurPool2d(config.init_features))
            else:
                zeros = config.stem_pool == "zero_max"
                padding = 0 if self.same or zeros else 1
                self.pool = pool(3, stride=self.step, padding=padding, ceil_mode=config.stem_ceil)
                if zeros:
                    self.pool = nn.Sequential(PADS[config.spatial_dims](1, 0.0), self.pool)

    def first(self, config: DenseNetConfig, width: int) -> nn.Module:
        """The first convolution."""
        padding = [0 if self.same else n // 2 for n in self.kernel]
        conv = CONVS[config.spatial_dims]
        layer: nn.Module = conv(config.in_channels, width, self.kernel, self.stride, padding, bias=False)
        return layer

    def around(self, x: Tensor) -> Tensor:
        """The image with what the first convolution does not pad itself."""
        return pad_same(x, self.kernel, self.stride) if self.same else x

    def pooled(self, x: Tensor) -> Tensor:
        """The pooling; what pads it as SAME is below everything."""
        y: Tensor = self.pool(pad_same(x, self.window, self.step, float("-inf")) if self.same_pool else x)
        return y


class _CifarStem(_Stem):
    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        self.conv = self.first(config, config.init_features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.around(x))
        return x


class _ImageNetStem(_Stem):
    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        self.conv = self.first(config, config.init_features)
        self.norm = NORMS[config.spatial_dims](config.init_features, eps=config.eps)
        self.halves = config.stem_halves

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(self.around(x))))
        return self.pooled(x) if self.halves else x


class _DeepStem(_Stem):
    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        conv, norm = CONVS[config.spatial_dims], NORMS[config.spatial_dims]
        inputs, outputs = (config.in_channels, *config.stem_widths), (*config.stem_widths, config.init_features)
        self.conv0 = self.first(config, outputs[0])
        self.norm0 = norm(outputs[0], eps=config.eps)
        self.conv1 = conv(inputs[1], outputs[1], 3, padding=1, bias=False)
        self.norm1 = norm(outputs[1], eps=config.eps)
        self.conv2 = conv(inputs[2], outputs[2], 3, padding=1, bias=False)
        self.norm2 = norm(outputs[2], eps=config.eps)
        self.halves = config.stem_halves

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm0(self.conv0(self.around(x))))
        x = self.act(self.norm1(self.conv1(x)))
        x = self.act(self.norm2(self.conv2(x)))
        return self.pooled(x) if self.halves else x


STEMS: dict[str, type[nn.Module]] = {"cifar": _CifarStem, "imagenet": _ImageNetStem, "deep": _DeepStem}


class _Layer(nn.Module):
    """The composite function H: all earlier feature maps in, ``growth_rate`` new ones out."""

    def __init__(self, config: DenseNetConfig, width: int, drop_rate: float, memory_efficient: bool) -> None:
        super().__init__()
        conv, norm = CONVS[config.spatial_dims], NORMS[config.spatial_dims]
        self.drop_rate = drop_rate
        self.memory_efficient = memory_efficient
        growth, inner = config.growth_rate, config.bn_size * config.growth_rate
        self.act = _activation(config.hidden_layer)
        self.norm1 = norm(width, eps=config.eps)
        if config.bottleneck:
            self.conv1 = conv(width, inner, 1, bias=False)
            self.norm2 = norm(inner, eps=config.eps)
            self.conv2 = conv(inner, growth, 3, padding=1, bias=False)
        else:
            self.conv1 = conv(width, growth, 3, padding=1, bias=False)

    def first_half(self, features: list[Tensor]) -> Tensor:
        x: Tensor = self.conv1(self.act(self.norm1(torch.cat(features, 1))))
        return x

    @torch.jit.unused
    def first_half_recomputed(self, features: list[Tensor]) -> Tensor:
        def run(*inputs: Tensor) -> Tensor:
            return self.first_half(list(inputs))

        x: Tensor = checkpoint(run, *features, use_reentrant=False)
        return x

    def forward(self, features: list[Tensor]) -> Tensor:
        if self.memory_efficient and self.training and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            x = self.first_half_recomputed(features)
        else:
            x = self.first_half(features)
        if hasattr(self, "conv2"):  # TorchScript decides this form when it compiles
            x = self.conv2(self.act(self.norm2(x)))
        if self.drop_rate > 0:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x


class _Block(nn.Module):
    def __init__(
        self, config: DenseNetConfig, width: int, layers: int, drop_rate: float, memory_efficient: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(config, width + i * config.growth_rate, drop_rate, memory_efficient) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class _Transition(nn.Module):
    def __init__(self, config: DenseNetConfig, width: int, out: int) -> None:
        super().__init__()
        self.norm = NORMS[config.spatial_dims](width, eps=config.eps)
        self.act = _activation(config.hidden_layer) if config.transition_relu else nn.Identity()
        self.conv = CONVS[config.spatial_dims](width, out, 1, bias=False)
        if config.transition_pool == "blur":
            self.pool = BlurPool2d(out)
        else:
            size = config.axes(config.transition_stride)
            pool = (MAX_POOLS if config.transition_pool == "max" else AVG_POOLS)[config.spatial_dims]
            self.pool = pool(size, stride=size, ceil_mode=config.transition_ceil)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(self.act(self.norm(x))))
        return x


class BlurPool2d(nn.Module):
    """Binomial 3x3 filter with stride 2 and reflected borders (timm/layers/blur_pool.py)."""

    kernel: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        row = torch.tensor([0.25, 0.5, 0.25])
        kernel = (row[:, None] * row[None, :]).expand(width, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=self.width)


def pad_same(x: Tensor, size: list[int], stride: list[int], value: float = 0.0) -> Tensor:
    """``x`` padded as TensorFlow's SAME rule pads for a window of that size and stride."""
    padding: list[int] = []
    for i in range(len(size) - 1, -1, -1):
        n = x.shape[2 + i]
        total = max(((n + stride[i] - 1) // stride[i] - 1) * stride[i] + size[i] - n, 0)
        padding.append(total // 2)
        padding.append(total - total // 2)
    return F.pad(x, padding, value=value)
