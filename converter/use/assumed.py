"""What nobody says of a network's images and classes, and what is taken for it."""

from collections.abc import Sequence

from converter.core.errors import ConverterError
from converter.core.model import Images
from densenet.config import DenseNetConfig
from densenet.labels import imagenet_classes
from densenet.preprocess import Preprocess


def preprocess_for(config: DenseNetConfig, images: Images) -> Preprocess:
    """What is said of the images; else the usual preprocessing of such a network, which of volumes is none.

    Raises:
        ConverterError: it takes no ordinary images.
    """
    if config.spatial_dims == 3 and images.preprocess is None:
        return Preprocess.whole(config.in_channels)
    try:
        return images.preprocess or Preprocess.usual(config)
    except ValueError as error:
        raise ConverterError(str(error)) from error


def labels_for(images: Images, classes: int) -> tuple[str, ...]:
    """What is said of the classes; else ImageNet's, where there are as many."""
    return images.labels or (imagenet_classes() if classes == len(imagenet_classes()) else ())


def assumed(config: DenseNetConfig, images: Images, shown: Sequence[str] = ()) -> tuple[str, ...]:
    """Notes on what is assumed where nobody says; ``shown`` are the class names that people will see.

    Raises:
        ConverterError: it takes no ordinary images.
    """
    notes = []
    if images.preprocess is None and config.spatial_dims == 3:
        notes.append(
            "how volumes are prepared is not recorded: their values and axes are taken as the files have them, "
            "neither scaled, resized nor reoriented"
        )
    elif images.preprocess is None:
        steps = preprocess_for(config, images)
        notes.append(
            f"how images are prepared is not recorded: {steps.sizes}, mean {list(steps.mean)} and std "
            f"{list(steps.std)} are assumed; densenet convert --preprocess NAME records it"
        )
    if shown and not images.labels:
        notes.append("the classes have no names here: ImageNet's are shown, as there are 1000 of them")
    return tuple(notes)


def assumed_activation(config: DenseNetConfig, images: Images) -> tuple[str, ...]:
    """A note where the one output of a network is taken for a logit, and nobody says so."""
    if images.activation or config.num_classes != 1:
        return ()
    return ("the one output is taken as a logit, and its sigmoid as a probability; --activation none changes it",)
