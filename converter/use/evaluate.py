"""Top-1 and top-5 accuracy on a folder of images, one subfolder a class."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.use.images import IMAGE_SUFFIXES
from converter.use.predict import predictor


@dataclass(frozen=True)
class Evaluation:
    """How many images were classified right; ``notes`` say what was assumed."""

    images: int
    top1: int
    top5: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, float]:
        """Counts, and accuracies in percent."""
        return {
            "images": self.images,
            "top1_correct": self.top1,
            "top5_correct": self.top5,
            "top1": 100 * self.top1 / self.images,
            "top5": 100 * self.top5 / self.images,
        }


def labelled_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Images of a folder whose subfolders are classes, and the class of each, in order of their names.

    Raises:
        ConverterError: it has no such subfolders, or no images in them.
    """
    if not folder.is_dir():
        raise ConverterError(f"{folder}: no such folder")
    pairs = [
        (image, sub.name)
        for sub in sorted(path for path in folder.iterdir() if path.is_dir())
        for image in sorted(sub.rglob("*"))
        if image.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not pairs:
        raise ConverterError(f"{folder}: needs one subfolder of images for each class")
    return [image for image, _ in pairs], [name for _, name in pairs]


def evaluate(
    source: str | Path,
    folder: str | Path,
    *,
    engine: str = "onnxruntime",
    images: Images | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Classify every image of a folder and count.

    Args:
        source: a checkpoint, an ONNX file, a URL or a zoo name.
        folder: one subfolder a class.  Where all their names are labels of the model
            these tell the class; else their sorted order is the classes' order, as
            torchvision's ImageFolder has it.
        engine: ``onnxruntime`` or ``torch``.
        images: what its images and classes are, where the source does not say.
        progress: called with the number of images done.

    Raises:
        ConverterError: the model or the folder cannot be used.
    """
    found, names = labelled_images(Path(folder))
    model = predictor(source, engine=engine, images=images)
    logits = model.logits(found, progress)
    order = sorted(set(names))
    index = {name: i for i, name in enumerate(order)}
    if model.labels and set(order) <= set(model.labels):
        index = {name: model.labels.index(name) for name in order}
    elif len(order) != logits.shape[1]:
        raise ConverterError(f"{folder}: {len(order)} subfolders for a model of {logits.shape[1]} classes")
    truth = np.array([index[name] for name in names])
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    right = best == truth[:, None]
    return Evaluation(len(found), int(right[:, 0].sum()), int(right.any(1).sum()), model.notes)
