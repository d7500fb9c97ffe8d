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
    "heads": {},
    "in_channels": 3,
    "eps": 1e-5,
    "spatial_dims": 2,
}
"""Every field of ``densenet``, and its usual value (densenet121)."""


class DenseNetConfig(PretrainedConfig):  # type: ignore[misc]
    """The network (``densenet``), and what every transformers config has: ``id2label``, ``problem_type`` ...

    Of a network with several heads ``heads`` has these of each, by name; ``head`` is the only one that is asked:
    ``from_pretrained(..., head="age")``, or ``pipeline(..., model_kwargs={"head": "age"})``.

    Raises:
        ValueError: a field that the code beside this file does not know.
    """

    model_type = "densenet-converter"

    def __init__(
        self,
        densenet: dict[str, Any] | None = None,
        heads: dict[str, dict[str, Any]] | None = None,
        head: str = "",
        **kwargs: Any,
    ) -> None:
        self.heads, self.head = heads or {}, head
        self.densenet = {**USUAL, **(densenet or {})}
        unknown = set(self.densenet) - set(USUAL)
        if unknown:
            raise ValueError(f"config.json: the modelling code knows no {', '.join(sorted(unknown))}")
        if self.densenet["spatial_dims"] != 2:
            raise ValueError("config.json: the modelling code is for images, not for signals or volumes")
        super().__init__(**kwargs)

    def of_head(self, head: str) -> None:
        """Say of classes what is said of one of several heads.

        Raises:
            ValueError: there is no such head.
        """
        known = self.densenet["heads"]
        if head not in known:
            raise ValueError(f"there is no head {head!r}; there are {', '.join(known) or 'none to choose from'}")
        said = self.heads.get(head, {})
        self.head, self.problem_type = head, said.get("problem_type")
        names = said.get("id2label") or {i: f"LABEL_{i}" for i in range(known[head]["num_classes"])}
        self.id2label = {int(i): name for i, name in names.items()}
        self.label2id = {name: i for i, name in self.id2label.items()}
