"""What artifacts are measured against: inputs, the oracle's logits, and the error they permit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Array
from converter.core.memory import give_back
from converter.core.model import Images, Model
from converter.core.progress import Progress, Steps
from converter.engines.torch import behind_pooling, torch_engine, torch_module
from converter.parity.artifact import Artifact
from converter.parity.bench import USUAL, Bench
from converter.parity.compare import explained_error, limits_for, relative_error
from converter.parity.joint import Joint, look
from converter.parity.proto import takes_pixels
from converter.parity.verdict import OUR_READING
from converter.use.assumed import preprocess_for
from converter.use.images import find_images, shipped_images
from converter.use.inputs import Batch, arrays, pixels, standard
from densenet.config import DenseNetConfig

YARDSTICK = "PyTorch float32"
ORACLE = "PyTorch float64"


@dataclass(frozen=True)
class Truth:
    """The reference's side: inputs, the oracle's logits on them, and what they permit.

    Attributes:
        model: the reference; None where only its logits were recorded.
        config, images: its network, and what it says of images and classes.
        oracle: how its logits were computed.
        batches, truths: inputs and the oracle's logits, (N, classes) each.
        rounded: PyTorch's float32 logits by input; none where they were not recorded.
        own: their error on each input.
        limits: the error permitted on each input.
        rests_on: as in a :class:`converter.Verification`.
        features: what global pooling gives, by input: the oracle's, and the error permitted; none unless needed.
    """

    model: Model | None
    config: DenseNetConfig
    images: Images
    oracle: str
    batches: list[Batch]
    truths: list[Array]
    rounded: Mapping[str, Array]
    own: list[float]
    limits: list[float]
    features: Mapping[str, tuple[Array, float]] = field(default_factory=dict)
    rests_on: str = OUR_READING

    @classmethod
    def compute(
        cls,
        model: Model,
        bench: Bench = USUAL,
        files: Sequence[Artifact] = (),
        progress: Progress = lambda _: None,
        joint: Joint | None = None,
    ) -> Truth:
        """The oracle's logits and PyTorch's own, on the usual inputs, and on those that only some of the files take.

        Of several heads (``joint``) the first goes through the whole network, the others begin where it was pooled.

        Raises:
            ConverterError: the images cannot be read, or the files need different ones.
        """
        batches = batches_for(model, bench, files)
        module = torch_module(model)
        if isinstance(progress, Steps):
            progress.batches = len(batches)
        outputs: list[list[Array]] = [[], []]
        pooled: list[list[Array]] = [[], []]
        taken: list[list[Array]] = [[], []]
        positions: list[int] = []
        shown: dict[str, list[Array]] = {"pooled": [], "taken": []}
        module.head.register_forward_pre_hook(lambda _, inputs: shown["pooled"].append(inputs[0].numpy()))
        module.classifier.register_forward_pre_hook(lambda _, inputs: shown["taken"].append(inputs[0].numpy()))
        module.norm.register_forward_hook(lambda _, inputs, maps: positions.append(prod(maps.shape[2:])))
        for double in (False, True):
            run, behind = torch_engine(module, double=double), torch_engine(behind_pooling(module), double=double)
            for batch in batches:
                progress(f"{ORACLE if double else YARDSTICK}, {batch.name}")
                key, first = (double, look(batch.array)) if joint else None, len(positions)
                if joint and key in joint.pooled:
                    images, before = joint.pooled[key]
                    positions += before
                    outputs[double].append(np.concatenate([behind(image) for image in images]))
                else:
                    # The float64 maps of several images at once would be most of what is in memory.
                    images = np.split(batch.array, len(batch.array)) if double else [batch.array]
                    outputs[double].append(np.concatenate([run(image) for image in images]))
                if joint and key:
                    joint.pooled[key] = [*shown["pooled"]], positions[first:]
                for name, kept in (("pooled", pooled), ("taken", taken)):
                    kept[double].append(np.concatenate(shown[name]))
                    shown[name].clear()
        del run, behind, module
        give_back()
        allowed = limits_for([relative_error(a, b) for a, b in zip(*pooled)], positions)
        features = {batch.name: (array, limit) for batch, array, limit in zip(batches, pooled[True], allowed)}
        own = [relative_error(a, b) for a, b in zip(*outputs)]
        explained = own
        if model.config.num_classes:
            weight = model.tensors["classifier.weight"].read()
            explained = [
                explained_error(rough, fine, weight, logits) for rough, fine, logits in zip(*taken, outputs[True])
            ]
        limits = limits_for([max(pair) for pair in zip(own, explained)], positions)
        rounded = {batch.name: logits for batch, logits in zip(batches, outputs[False])}
        return cls(model, model.config, model.images, ORACLE, batches, outputs[True], rounded, own, limits, features)

    def of(self, batch: Batch) -> tuple[Array, float]:
        """The oracle's logits on one of the inputs, and the error permitted there."""
        at = [known.name for known in self.batches].index(batch.name)
        return self.truths[at], self.limits[at]


def batches_for(model: Model, bench: Bench, files: Sequence[Artifact]) -> list[Batch]:
    """The usual inputs of a network, with the user's own, and what the files to compare need.

    Raises:
        ConverterError: the images cannot be read, or the files need different ones.
    """
    config, steps, seed = model.config, model.images.preprocess, bench.seed
    given = Path(bench.images) if bench.images is not None else None
    arrays_given = given is not None and given.suffix == ".npy"
    found = () if arrays_given else find_images(given) if given else shipped_images()
    result = standard(config, steps, found, seed)
    for size in {file.fixed(): None for file in files if file.fixed()}:
        names = {batch.name for batch in result}
        result += [b for b in standard(config, steps, (), seed, size=size) if b.name not in names]
    if given and arrays_given:
        result += arrays(given, config)
    if any(file.proto is not None and takes_pixels(file.proto) for file in files):
        result += pixels(preprocess_for(config, model.images), seed)
    return result
