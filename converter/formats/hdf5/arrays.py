"""Arrays that index chunks in the order of their places (VII.C fixed, VII.D extensible)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from converter.formats.hdf5.counted import UNDEFINED, Counted


def fixed_array(file: Counted, address: int) -> Iterator[bytes]:
    """Entries of a fixed array (VII.C): in its block, or in pages with checksums of their own.

    Raises:
        ValueError, struct.error: no valid array is there.
    """
    head = file.summed(address, 28, b"FAHD")
    entry, bits = head[6], head[7]
    count, block = struct.unpack_from("<QQ", head, 8)
    if not entry or bits > 63:
        raise ValueError("an array of nothing")
    page = 1 << bits
    if count <= page:
        body = file.summed(block, 14 + count * entry + 4, b"FADB")
        yield from (body[at : at + entry] for at in range(14, 14 + count * entry, entry))
        return
    pages = -(-count // page)
    start = 14 + -(-pages // 8)
    file.summed(block, start + 4, b"FADB")
    at = block + start + 4
    for number in range(pages):
        held = min(page, count - number * page)
        body = file.summed(at, held * entry + 4, b"")
        yield from (body[i : i + entry] for i in range(0, held * entry, entry))
        at += page * entry + 4


def extensible_array(file: Counted, address: int) -> Iterator[bytes]:
    """Entries of an extensible array: the first in its index block, then in data blocks, which get larger; of those the
    first are listed by the index block, later ones by super blocks (H5EAhdr.c, H5EAiblock.c).

    Raises:
        ValueError, struct.error: no valid array is there.
    """
    head = file.summed(address, 72, b"EAHD")
    entry, bits, first, least, pointers, page_bits = head[6:12]
    (index,) = struct.unpack_from("<Q", head, 60)
    powers = all(value and value & (value - 1) == 0 for value in (least, pointers))
    if not entry or not powers or not least.bit_length() <= bits <= 64 or page_bits > 63 or pointers < 2:
        raise ValueError("an array with blocks of impossible sizes")
    count = 1 + bits - (least.bit_length() - 1)
    listed, direct = 2 * (pointers.bit_length() - 1), 2 * (pointers - 1)
    supers = max(count - listed, 0)
    body = file.summed(index, 14 + first * entry + 8 * (direct + supers) + 4, b"EAIB")
    yield from (body[at : at + entry] for at in range(14, 14 + first * entry, entry))
    places = iter(struct.unpack_from(f"<{direct + supers}Q", body, 14 + first * entry))
    offset = -(-bits // 8)
    for number in range(count):
        blocks, held = 1 << number // 2, least << (number + 1) // 2
        pages = held >> page_bits if held > 1 << page_bits else 0
        if number < listed:
            found = [next(places) for _ in range(blocks)]
        else:
            place = next(places)
            if place == UNDEFINED:
                return
            skipped = 14 + offset + blocks * -(-pages // 8)
            found = list(
                struct.unpack_from(f"<{blocks}Q", file.summed(place, skipped + 8 * blocks + 4, b"EASB"), skipped)
            )
        for block in found:
            if block == UNDEFINED:
                return
            yield from _data_block(file, block, (entry, held, pages), 14 + offset)


def _data_block(file: Counted, block: int, sizes: tuple[int, int, int], start: int) -> Iterator[bytes]:
    entry, held, pages = sizes
    if pages:
        file.summed(block, start + 4, b"EADB")
        held //= pages
        parts = [(block + start + 4 + i * (held * entry + 4), 0) for i in range(pages)]
    else:
        parts = [(block, start)]
    for place, skipped in parts:
        body = file.summed(place, skipped + held * entry + 4, b"" if pages else b"EADB")
        yield from (body[at : at + entry] for at in range(skipped, skipped + held * entry, entry))
