"""Pictures of class activation maps in a folder, and a page to look at them."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from converter.core.checkpoint import Array
from converter.core.errors import CannotWrite
from converter.core.files import scratch, with_parents, write_bytes
from converter.core.text import well_formed
from converter.core.version import __version__
from converter.use.overlay import COLOURS, STRONGEST, overlay
from densenet.images import ImageSource, decode
from densenet.pixels import name_of
from densenet.preprocess import Preprocess

PAGE = "index.html"
SHOWN = 5
"""Classes beside each picture."""


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its image, its name, the best classes with what they score, whether the map is empty.

    Of several heads, of which one it is.
    """

    path: str
    picture: str
    best: tuple[tuple[str, float], ...]
    nothing: bool
    head: str = ""


@dataclass
class Gallery:
    """A folder of pictures, and in the end their page.

    Attributes:
        folder: where.
        how: one sentence on how the maps are made.
        pictures: by the place of their images, and the head.
    """

    folder: Path
    how: str = ""
    pictures: dict[tuple[int, str], Picture] = field(default_factory=dict)

    def add(
        self,
        place: int,
        image: ImageSource,
        heat: Array,
        steps: Preprocess,
        best: Sequence[tuple[str, float]],
        head: str = "",
    ) -> None:
        """Write the picture of one image, and of one of several heads; from any thread, those of an image in order."""
        stem = re.sub(r"[^\w.-]+", "_", well_formed(Path(name_of(image)).stem))[:60]
        name = f"{place + 1:06d}_{stem}{'.' * bool(head)}{head}.png"
        write_bytes(self.folder / name, overlay(decode(image, steps.channels, window=steps.window), heat, steps))
        self.pictures[place, head] = Picture(well_formed(name_of(image)), name, tuple(best), not heat.any(), head)

    def write_page(self, title: str, notes: Sequence[str], failed: Sequence[str]) -> None:
        """Write the page, the pictures in order of their images."""
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (for few)

        environment = Environment(
            loader=PackageLoader("converter.use", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = io.BytesIO()
        environment.get_template("gallery.html.j2").stream(
            title=title,
            how=self.how,
            colours=", ".join(f"rgb({r} {g} {b} / {at * STRONGEST:.0%}) {at:.0%}" for at, (r, g, b) in COLOURS),
            pictures=[self.pictures[at] for at in sorted(self.pictures, key=lambda at: at[0])],
            images=len({place for place, _ in self.pictures}),
            failed=[well_formed(line) for line in failed],
            notes=notes,
            version=__version__,
        ).dump(page, "utf-8")
        write_bytes(self.folder / PAGE, page.getvalue())


@contextmanager
def gallery(folder: Path) -> Iterator[Gallery]:
    """A folder that is there, whole, when the block ends well.

    Raises:
        CannotWrite: there is something in it already, or it cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CannotWrite(f"{folder}: is there already, and not empty; name a new folder for the pictures")
        with with_parents(folder), scratch(folder.absolute().parent) as temporary:
            staged = temporary / "pictures"
            staged.mkdir()
            yield Gallery(staged)
            if folder.exists():
                folder.rmdir()
            staged.replace(folder)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror or error})") from error
