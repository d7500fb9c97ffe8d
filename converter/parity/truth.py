"""What artifacts are measured against: inputs, the oracle's logits, and the error they permit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.memory import give_back
from converter.core.model import Images, Model
from converter.core.progress import Progress, Steps
from converter.engines.torch import behind_pooling, carried, torch_engine, torch_module
from converter.parity.artifact import Artifact
from converter.parity.bench import USUAL, Bench
from converter.parity.compare import explained_error, limits_for, relative_error
from converter.parity.image_checks import front
from converter.parity.joint import Joint, look
from converter.parity.verdict import OUR_READING
from converter.parity.watched import Watched
from converter.use.assumed import preprocess_for
from converter.use.images import shipped_images
from converter.use.inputs import MAX_IMAGES, Batch, arrays, pixels, standard
from converter.use.sample import sampled
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess
from densenet.topology import FEATURES

YARDSTICK = "PyTorch float32"
ORACLE = "PyTorch float64"


HALF_STEP = float(np.finfo(np.float16).eps) / 2
SMALLEST_HALF = float(np.finfo(np.float16).smallest_subnormal)


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
        values: what the network computes on its way, by name and input: the oracle's, and the error permitted.
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
    values: Mapping[str, Mapping[str, tuple[Array, float]]] = field(default_factory=dict)
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
        positions: list[int] = []
        module.norm.register_forward_hook(lambda _, inputs, maps: positions.append(prod(maps.shape[2:])))
        watched = Watched(model, module, {name for file in files for name in file.further_outputs()})
        joint = None if watched.maps else joint  # which begins behind them
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
                    joint.pooled[key] = [*watched.shown[FEATURES]], positions[first:]
                watched.keep(double=double)
        explained = [0.0] * len(batches)
        if model.config.num_classes:
            with np.errstate(invalid="ignore"):  # of infinite features
                noise = [carried(module, fine, rough - fine) for rough, fine in zip(*watched.found[FEATURES])]
            explained = [explained_error(each, logits) for each, logits in zip(noise, outputs[True])]
        del run, behind, module
        give_back()
        places = positions[: len(batches)]
        values = {}
        for name, found in watched.found.items():
            averaged = places if name == FEATURES else [0] * len(batches)
            allowed = limits_for([relative_error(a, b) for a, b in zip(*found)], averaged)
            values[name] = {batch.name: (array, limit) for batch, array, limit in zip(batches, found[True], allowed)}
        own = [relative_error(a, b) for a, b in zip(*outputs)]
        limits = limits_for([max(pair) for pair in zip(own, explained)], places)
        rounded = {batch.name: logits for batch, logits in zip(batches, outputs[False])}
        return cls(model, model.config, model.images, ORACLE, batches, outputs[True], rounded, own, limits, values)

    def of_features(self) -> Truth:
        """The same of the network that ends in its pooled features.

        Raises:
            ConverterError: only logits were recorded.
        """
        if self.model is None or FEATURES not in self.values:
            raise ConverterError(
                "only logits were recorded, and the file gives features; verify it against its checkpoint"
            )
        pairs = [self.values[FEATURES][batch.name] for batch in self.batches]
        model, (truths, limits) = self.model.headless(), map(list, zip(*pairs))
        return replace(self, model=model, config=model.config, images=model.images, truths=truths, limits=limits)

    def rounded_to_half(self) -> Truth:
        """The same for files that give float16: a number may be off by half a step of that more."""

        def limit(before: float, truth: Array) -> float:
            largest = float(np.abs(truth).max(initial=0))
            return before + HALF_STEP + (SMALLEST_HALF / largest if largest else 0.0)

        values = {
            name: {batch: (array, limit(before, array)) for batch, (array, before) in of.items()}
            for name, of in self.values.items()
        }
        limits = [limit(before, truth) for before, truth in zip(self.limits, self.truths)]
        return replace(self, limits=limits, values=values)

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
    given = str(bench.images) if bench.images is not None else ""
    arrays_given = given.endswith(".npy")
    found = () if arrays_given else sampled(given, MAX_IMAGES) if given else shipped_images()
    result = standard(config, steps, found, seed)
    floats = [file for file in files if not file.takes_pixels()]
    for size in {file.fixed(): None for file in floats if file.fixed()}:
        names = {batch.name for batch in result}
        result += [b for b in standard(config, steps, (), seed, size=size) if b.name not in names]
    if given and arrays_given:
        result += arrays(Path(given), config)
    if any(file.in_half()[0] for file in floats):  # all networks take those numbers, too
        result = [replace(batch, array=halved(batch.array), seed=None) for batch in result]
    for kind, file in {kind_of_pixels(file): file for file in files if file.takes_pixels()}.items():
        result += [replace(batch, kind=kind) for batch in pixels_of(file, preprocess_for(config, model.images), seed)]
    return result


def kind_of_pixels(file: Artifact) -> str:
    """Which of the 8-bit images are for a file: all take the same, but those of one size, and those resized before."""
    if file.said().resized:
        return "pixels, resized before"
    return f"pixels, as {file.name} takes them" if file.fixed() else "pixels"


def halved(array: Array) -> Array:
    """The nearest float16 numbers, as float32."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(array, -largest, largest).astype(np.float16).astype(np.float32)


def pixels_of(file: Artifact, steps: Preprocess, seed: int) -> list[Batch]:
    """8-bit images that a file takes, and what the network takes of them.

    Of images that a graph of one size has to resize, that is what it makes of them itself: how well it does so is
    checked by itself.
    """
    size, kind = file.fixed(), kind_of_pixels(file)
    if not size:
        return pixels(steps, seed)
    made = pixels(replace(steps, resize=None, crop=size), seed)
    if not file.said().resized:
        assert file.proto is not None
        prepare = front(file.proto)
        made = [replace(batch, array=prepare(batch.pixels)) for batch in made if batch.pixels is not None]
    return [replace(batch, name=f"{batch.name}{kind.removeprefix('pixels')}") for batch in made]
