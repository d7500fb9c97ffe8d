"""Records as keywords: what the public functions take beside, or instead of, the records themselves."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.core.source import AnySource, Reading, Source
from densenet.preprocess import Preprocess, family

T = TypeVar("T", bound=Mapping[str, Any])


class Shorthand(Reading, total=False):
    """The fields of :class:`converter.Source` and :class:`converter.Images`; a known preprocessing by its name."""

    preprocess: Preprocess | Mapping[str, Any] | str | None
    labels: Iterable[str]
    activation: str


def taken(keywords: Any, fields: type[T]) -> Any:
    """Take the keywords that are fields of a TypedDict out of all that were given."""
    return {name: keywords.pop(name) for name in list(keywords) if name in fields.__annotations__}


def records(source: AnySource, images: Images | None, shorthand: Shorthand) -> tuple[Source, Images]:
    """What the keywords say, as the two records.

    Raises:
        ConverterError: there is no such setting, or it is no preprocessing.
    """
    rest: Any = dict(shorthand)
    steps, labels = rest.pop("preprocess", None), rest.pop("labels", ())
    if isinstance(steps, Mapping | str):
        try:
            steps = family(steps) if isinstance(steps, str) else Preprocess.from_dict(steps) if steps else None
        except (ValueError, TypeError) as error:
            raise ConverterError(f"not a preprocessing ({error})") from error
    said = Images(steps, tuple(labels or ()), rest.pop("activation", "") or "")
    return Source.of(source, **rest), said.or_else(images or Images())
