"""What the publisher of a model says of it, where a source is one of the zoo's."""

from dataclasses import replace
from pathlib import Path

from converter.core.errors import ConverterError
from converter.core.held import Held
from converter.core.model import Images, Model
from converter.publish.expectations import unknown_labels
from densenet.labels import imagenet_classes
from densenet.zoo import MODELS, ZooModel, zoo_model


def zoo_entry(address: str | Path | Held, model: Model) -> ZooModel | None:
    """The published model a source is: the file has its hash, or was fetched by its name."""
    for entry in MODELS:
        if entry.sha256_prefix and model.origin.sha256.startswith(entry.sha256_prefix):
            return entry
    try:
        entry = zoo_model(str(address))
    except ValueError:
        return None
    return None if entry.sha256_prefix or isinstance(address, Held) or Path(address).exists() else entry


def completed(model: Model, zoo: ZooModel | None, images: Images) -> Model:
    """The model with what its packager says of it, and what its publisher does."""
    model, classes = model.described(images), model.config.num_classes
    names: tuple[str, ...] = ()
    if classes == len(imagenet_classes()):
        # Where nothing is said of 1000 classes, timm and transformers take them for ImageNet's.
        names = imagenet_classes() if zoo else unknown_labels(classes)
    return replace(model, images=model.images.or_else(Images(zoo.preprocess if zoo else None, names)))


def is_as_published(model: Model, zoo: ZooModel) -> bool:
    """Whether nothing was said that makes it another model than the one whose accuracy is published."""
    return model.config == zoo.config and replace(model.images, activation="") == Images(
        zoo.preprocess, imagenet_classes()
    )


def license_of(asked: str | None, zoo: ZooModel | None) -> str | None:
    """The licence's identifier as the Hub spells it.

    Raises:
        ConverterError: it is not the publisher's.
    """
    known = zoo.license.lower() if zoo else None
    if zoo and asked and known and asked.lower() != known:
        raise ConverterError(f"--license {asked}: {zoo.name} is published under {known}, and so are copies of it")
    return known or (asked.lower() if asked else None)
