"""A trained trunk for another task: a new classifier, a first convolution of other channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from converter.core.model import OF_HEAD
from densenet.config import DenseNetConfig

if TYPE_CHECKING:
    import torch

    from densenet.model import DenseNet


def transferred(
    trained: Any,
    config: DenseNetConfig,
    notes: list[str],
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
) -> DenseNet:
    """A network with a trained one's trunk, for other classes or images.

    Args:
        trained: our module, which gives up its tensors.
        config: its architecture.
        notes: is told what was done.
        num_classes, in_channels: of the new one; None for as many.

    Raises:
        ValueError: they cannot be that.
    """
    from densenet.model import DenseNet  # noqa: PLC0415 (slow to import)

    state = dict(trained.state_dict())
    if num_classes is not None and (config.heads or num_classes != config.num_classes):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(OF_HEAD)}
        config = replace(config, num_classes=num_classes, head=(), heads=())
        notes.append(
            f"a new linear layer of {num_classes} classes, with random weights" if num_classes else "no classifier"
        )
    if in_channels is not None and in_channels != config.in_channels:
        first = next(name for name, tensor in state.items() if name.startswith("stem.") and tensor.ndim > 2)
        state[first] = adapted(state[first], in_channels)
        how = "summed over" if in_channels == 1 else "repeated from"
        notes.append(f"the first convolution of {in_channels} channels, {how} the trained one's {config.in_channels}")
        config = replace(config, in_channels=in_channels)
    if config.heads:
        from densenet.model import MultiHeadDenseNet  # noqa: PLC0415 (slow to import)

        module: Any = MultiHeadDenseNet(config)
    else:
        module = DenseNet(config)
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith(OF_HEAD) for name in missing), (missing, unexpected)
    result: DenseNet = module.eval()
    return result


def adapted(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """The weight of a first convolution for so many channels (timm/models/_manipulate.py, adapt_input_conv)."""
    have = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    rows = [i % have for i in range(channels)]
    return weight[:, rows] * (have / channels)
