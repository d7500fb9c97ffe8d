"""What config.json says of a DenseNet, for transformers.

transformers runs this file from the repository that it is in, where ``trust_remote_code=True`` allows it.  It is
shipped by densenet-converter, which checks that a repository has exactly this text.
"""

from typing import Any

from transformers import PretrainedConfig

USUAL: dict[str, Any] = {
    "growth_rate": 32,
    "block_config": (6, 12, 24, 16),
    "init_features": 64,
    "bottleneck": True,
    "bn_size": 4,
    "compression": 0.5,
    "stem": "imagenet",
    "stem_kernel": None,
    "stem_stride": None,
    "stem_widths": (),
    "stem_pool": "max",
    "stem_pool_stride": 2,
    "transition_pool": "avg",
    "transition_stride": 2,
    "stem_ceil": False,
    "transition_ceil": False,
    "padding": "symmetric",
    "transition_relu": True,
    "final_relu": True,
    "hidden_activation": "relu",
    "final_activation": None,
    "global_pool": "avg",
    "head": (),
    "num_classes": 1000,
    "in_channels": 3,
    "eps": 1e-5,
    "spatial_dims": 2,
}
"""Every field of ``densenet``, and its usual value (densenet121)."""


class DenseNetConfig(PretrainedConfig):  # type: ignore[misc]
    """The network (``densenet``), and what every transformers config has: ``id2label``, ``problem_type`` ...

    Raises:
        ValueError: a field that the code beside this file does not know.
    """

    model_type = "densenet-converter"

    def __init__(self, densenet: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.densenet = {**USUAL, **(densenet or {})}
        unknown = set(self.densenet) - set(USUAL)
        if unknown:
            raise ValueError(f"config.json: the modelling code knows no {', '.join(sorted(unknown))}")
        if self.densenet["spatial_dims"] != 2:
            raise ValueError("config.json: the modelling code is for images, not for signals or volumes")
        super().__init__(**kwargs)
