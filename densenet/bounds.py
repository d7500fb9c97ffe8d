"""Bounds of what pictures, volumes and descriptions of a network may ask for.  The reader of files has its own
(``converter.core.bounds``)."""


class Bound(int):
    """A number that nothing in a file may exceed.

    Attributes:
        unit: of what.
        why: what it is measured by.
    """

    unit: str
    why: str

    def __new__(cls, most: int, unit: str, why: str) -> "Bound":
        """A bound of so many."""
        self = super().__new__(cls, most)
        self.unit, self.why = unit, why
        return self


PIXELS = Bound(
    178_956_970,
    "pixels of an image, decoded or resized; numbers of a volume",
    "the figure at which Pillow refuses to decode (2 * 1024**3 / 4 / 3)",
)
WIDTH = Bound(1 << 20, "features of a layer of a head", "a thousand times the widest known")
