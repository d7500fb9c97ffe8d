"""DenseNet (Huang et al., arXiv 1608.06993) for transformers, as ``densenet`` in config.json describes it.

transformers runs this file from the repository that it is in, where ``trust_remote_code=True`` allows it.  It needs
torch and transformers, reads and writes no files, and reaches no network.  Modules are named as the tensors in
model.safetensors.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)

from .configuration_densenet import DenseNetConfig

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "selu": nn.SELU,
    "softsign": nn.Softsign,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
}


def activation(word: str) -> nn.Module:
    """``relu``, or with the number that it takes: ``leaky_relu:0.2``."""
    kind, _, value = word.partition(":")
    return ACTIVATIONS[kind](float(value)) if value else ACTIVATIONS[kind]()


def axes(value: Any) -> list[int]:
    """A size or stride for both axes."""
    return [value, value] if isinstance(value, int) else list(value)


class SamePadding(nn.Module):
    """What TensorFlow's SAME rule puts around a window's input: one more at the bottom and right where it is odd."""

    def __init__(self, size: list[int], stride: list[int], value: float) -> None:
        super().__init__()
        self.size, self.stride, self.value = size, stride, value

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for n, size, stride in reversed(list(zip(x.shape[2:], self.size, self.stride))):
            total = max((-(-n // stride) - 1) * stride + size - n, 0)
            padding += [total // 2, total - total // 2]
        return F.pad(x, padding, value=self.value)


class BlurPool(nn.Module):
    """Binomial 3x3 filter with stride 2 and reflected borders (timm's BlurPool2d)."""

    def forward(self, x: Tensor) -> Tensor:
        row = x.new_tensor([0.25, 0.5, 0.25])
        kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class Stem(nn.Module):
    """The first convolution, or three of a deep stem, with norms and pooling but in a CIFAR stem."""

    def __init__(self, net: SimpleNamespace) -> None:
        super().__init__()
        kernel = axes(net.stem_kernel or (7 if net.stem == "imagenet" else 3))
        stride = axes(net.stem_stride or (1 if net.stem == "cifar" else 2))
        same = net.padding == "same"
        self.padding = SamePadding(kernel, stride, 0.0) if same else nn.Identity()
        widths = [net.in_channels, *(net.stem_widths if net.stem == "deep" else ()), net.init_features]
        numbers = ["0", "1", "2"] if net.stem == "deep" else [""]
        self.steps = [(f"conv{i}", "" if net.stem == "cifar" else f"norm{i}") for i in numbers]
        for i, (conv, norm) in enumerate(self.steps):
            size, step = (kernel, stride) if i == 0 else ([3, 3], [1, 1])
            around = [0, 0] if same and i == 0 else [n // 2 for n in size]
            self.add_module(conv, nn.Conv2d(widths[i], widths[i + 1], size, step, around, bias=False))  # type: ignore[arg-type]
            if norm:
                self.add_module(norm, nn.BatchNorm2d(widths[i + 1], eps=net.eps))
        self.act = activation(net.hidden_activation)
        self.pool = nn.Sequential(*self._pool(net)) if net.stem != "cifar" else nn.Identity()

    @staticmethod
    def _pool(net: SimpleNamespace) -> Iterator[nn.Module]:
        stride, same = axes(net.stem_pool_stride), net.padding == "same"
        if net.stem_pool == "max" and same:
            yield SamePadding([3, 3], stride, float("-inf"))
        if net.stem_pool == "blur":
            yield nn.MaxPool2d(3, stride=1, padding=1)
            yield BlurPool()
        elif net.stem_pool == "avg":
            yield nn.AvgPool2d(3, stride=stride, padding=1)  # type: ignore[arg-type]
        elif net.stem_pool == "zero_max":
            yield nn.ZeroPad2d(1)
            yield nn.MaxPool2d(3, stride=stride)  # type: ignore[arg-type]
        elif net.stem_pool == "max":
            yield nn.MaxPool2d(3, stride=stride, padding=0 if same else 1, ceil_mode=net.stem_ceil)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.padding(x)
        for conv, norm in self.steps:
            x = self.get_submodule(conv)(x)
            x = self.act(self.get_submodule(norm)(x)) if norm else x
        y: Tensor = self.pool(x)
        return y


class Layer(nn.Module):
    """The composite function H: all earlier feature maps in, ``growth_rate`` new ones out."""

    def __init__(self, net: SimpleNamespace, width: int) -> None:
        super().__init__()
        inner = net.bn_size * net.growth_rate
        self.bottleneck = net.bottleneck
        self.act = activation(net.hidden_activation)
        self.norm1 = nn.BatchNorm2d(width, eps=net.eps)
        if self.bottleneck:
            self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(inner, eps=net.eps)
            self.conv2 = nn.Conv2d(inner, net.growth_rate, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(width, net.growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new: Tensor = self.conv1(self.act(self.norm1(x)))
        if self.bottleneck:
            new = self.conv2(self.act(self.norm2(new)))
        return torch.cat([x, new], 1)


class Block(nn.Module):
    """Layers, each of which adds its feature maps to those before."""

    def __init__(self, net: SimpleNamespace, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(net, width + i * net.growth_rate) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Transition(nn.Module):
    """Fewer feature maps, of a half of the size."""

    def __init__(self, net: SimpleNamespace, width: int, out: int) -> None:
        super().__init__()
        size = tuple(axes(net.transition_stride))
        self.norm = nn.BatchNorm2d(width, eps=net.eps)
        self.act = activation(net.hidden_activation) if net.transition_relu else nn.Identity()
        self.conv = nn.Conv2d(width, out, 1, bias=False)
        pool = nn.MaxPool2d if net.transition_pool == "max" else nn.AvgPool2d
        blur = net.transition_pool == "blur"
        self.pool = BlurPool() if blur else pool(size, ceil_mode=net.transition_ceil)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(self.conv(self.act(self.norm(x))))
        return y


def pooled(x: Tensor, kind: str) -> Tensor:
    """Global pooling: feature maps (N, C, h, w) to vectors (N, C), or (N, 2C) of both kinds."""
    mean, most = x.flatten(2).mean(2), x.flatten(2).amax(2)
    kinds = {
        "avg": lambda: mean,
        "max": lambda: most,
        "avgmax": lambda: 0.5 * (mean + most),
        "catavgmax": lambda: torch.cat([mean, most], 1),
        "catmaxavg": lambda: torch.cat([most, mean], 1),
    }
    return kinds[kind]()


def head_of(net: SimpleNamespace, width: int, words: Iterable[str], classes: int) -> tuple[nn.Module, nn.Module]:
    """The layers between the pooled features and the classifier: norm, linear:512, linear:512:no_bias ..., and it."""
    layers: list[nn.Module] = []
    for word in words:
        kind, *values = word.split(":")
        if kind == "norm":
            layers.append(nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(width, eps=net.eps))))
        elif kind == "linear":
            linear = nn.Linear(width, int(values[0]), bias="no_bias" not in values)
            layers.append(nn.Sequential(OrderedDict(linear=linear)))
            width = linear.out_features
        else:
            layers.append(activation(word))
    return nn.Sequential(*layers), nn.Linear(width, classes)


def loss_of(logits: Tensor, labels: Tensor, problem: str | None) -> Tensor:
    """What training makes small: of numbers, of questions of their own, or of classes of which one is true."""
    if problem == "regression":
        return F.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
    if problem == "multi_label_classification" or logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype).view_as(logits))
    return F.cross_entropy(logits, labels)


class DenseNetPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Everything up to the pooled features; what loads and saves weights is transformers'."""

    config_class = DenseNetConfig
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_missing = (r"num_batches_tracked",)

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        net = self.net = SimpleNamespace(**config.densenet)
        width = net.init_features
        self.stem = Stem(net)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for b, layers in enumerate(net.block_config):
            if b:
                out = int(width * net.compression)
                self.transitions.append(Transition(net, width, out))
                width = out
            self.blocks.append(Block(net, width, layers))
            width += layers * net.growth_rate
        self.norm = nn.BatchNorm2d(width, eps=net.eps)
        self.act = activation(net.final_activation or net.hidden_activation) if net.final_relu else nn.Identity()
        self.width = 2 * width if net.global_pool.startswith("cat") else width

    def features(self, pixel_values: Tensor) -> Tensor:
        """The last feature maps (N, C, h, w), after the final norm."""
        x = self.blocks[0](self.stem(pixel_values))
        for transition, block in zip(self.transitions, list(self.blocks)[1:]):
            x = block(transition(x))
        y: Tensor = self.act(self.norm(x))
        return y

    def _init_weights(self, module: nn.Module) -> None:
        """As the paper's code does.  transformers calls it for modules of which the file lacks tensors."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.zeros_(module.num_batches_tracked)  # type: ignore[arg-type]


class DenseNetModel(DenseNetPreTrainedModel):
    """The network without its head: ``pooler_output`` are the pooled features."""

    _keys_to_ignore_on_load_unexpected = (r"^head\.", r"^heads\.", r"^classifier\.")

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPoolingAndNoAttention:
        """Images (N, in_channels, H, W) to feature maps and vectors."""
        maps = self.features(pixel_values)
        return BaseModelOutputWithPoolingAndNoAttention(maps, pooled(maps, self.net.global_pool))


class ByHead(Mapping[str, Tensor]):
    """Logits (N, classes) of several heads, by name.

    Raises:
        KeyError: it is asked for something else, as transformers' pipeline does, which knows one head.
    """

    def __init__(self, logits: dict[str, Tensor]) -> None:
        self.logits = logits

    def __getitem__(self, head: str) -> Tensor:
        if head not in self.logits:
            raise KeyError(f"{head}: of several heads ({', '.join(self)}) one is read with head=NAME, on loading")
        return self.logits[head]

    def __iter__(self) -> Iterator[str]:
        return iter(self.logits)

    def __len__(self) -> int:
        return len(self.logits)


class DenseNetForImageClassification(DenseNetPreTrainedModel):
    """The network with its head: ``logits`` (N, num_labels); with several heads a mapping of these by name.

    With ``head`` (here, or in the config) that one of several alone is computed, as if there were no other.
    """

    def __init__(self, config: DenseNetConfig, head: str = "") -> None:
        if head or config.head:
            config.of_head(head or config.head)
        super().__init__(config)
        if self.net.heads:
            self.heads = nn.Module()
            for name, said in self.net.heads.items():
                layers, classifier = head_of(self.net, self.width, said.get("head", ()), said["num_classes"])
                # Past add_module, which refuses names that nn.Module has itself, such as type.
                self.heads._modules[name] = nn.Sequential(OrderedDict(head=layers, classifier=classifier))
        else:
            self.head, self.classifier = head_of(self.net, self.width, self.net.head, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Any = None, **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Images (N, in_channels, H, W) to logits, and with labels to the loss that ``problem_type`` names.

        Labels of several heads are a mapping by name, and the loss is the sum of theirs.
        """
        features, config = pooled(self.features(pixel_values), self.net.global_pool), self.config
        if not self.net.heads or config.head:
            network = self.heads._modules[config.head] if config.head else nn.Sequential(self.head, self.classifier)
            logits = network(features)  # type: ignore[misc]
            loss = None if labels is None else loss_of(logits, labels, config.problem_type)
            return ImageClassifierOutputWithNoAttention(loss, logits)
        every = {name: network(features) for name, network in self.heads.named_children()}
        if labels is not None:
            kinds = {name: config.heads.get(name, {}).get("problem_type") for name in every}
            loss = torch.stack([loss_of(every[name], labels[name], kinds[name]) for name in labels]).sum()
        else:
            loss = None
        return ImageClassifierOutputWithNoAttention(loss, ByHead(every))
