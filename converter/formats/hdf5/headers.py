"""Object headers (IV.A): the messages that say what an object is."""

from __future__ import annotations

import struct
from typing import NamedTuple

from converter.formats.hdf5.counted import Counted, NotRead

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
GROUP_INFO, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = 0x0A, 0x0B, 0x0C, 0x10, 0x11, 0x15
MESSAGE = 32
"""What a message counts beside its bytes."""
NEWEST = 0x18
"""The last kind of message that the specification knows."""
SHARED, MUST_BE_KNOWN = 0x02, 0x80
"""Flags of a message: it is elsewhere; who does not know its kind must not read the object."""
TRACKED = 0x04
"""Flag of a header: its messages are numbered as they were made."""


class Message(NamedTuple):
    """One message."""

    kind: int
    flags: int
    body: bytes


def messages(file: Counted, address: int) -> list[Message]:
    """Every message of an object header, its continuations included.

    Raises:
        ValueError, struct.error: no valid header is there.
    """
    result: list[Message] = []
    head = file.at(address, 16 if address + 16 <= len(file.data) else 8)
    modern = head[:4] == b"OHDR"
    if modern:
        flags = head[5]
        start = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        if head[4] != 2:
            raise ValueError(f"an object header of version {head[4]}")
        size = int.from_bytes(file.at(address + start, width), "little")
        skipped, prefix = start + width, 6 if flags & TRACKED else 4
        chunk = file.summed(address, skipped + size + 4, b"OHDR")[skipped:]
    else:
        if head[0] != 1:
            raise ValueError(f"no object header at {address}")
        prefix, chunk = 8, file.at(address + 16, struct.unpack_from("<I", head, 8)[0])
    chunks = [chunk]
    while chunks:
        chunk, at = chunks.pop(0), 0
        while at + prefix <= len(chunk):
            kind, length = struct.unpack_from("<BH" if modern else "<HH", chunk, at)
            message = Message(kind, chunk[at + (3 if modern else 4)], chunk[at + prefix : at + prefix + length])
            at += prefix + length
            file.spend(MESSAGE)
            if at > len(chunk):
                raise ValueError("a message that reaches behind its header")
            if kind == CONTINUATION:
                place, size = struct.unpack_from("<QQ", message.body)
                chunks.append(file.summed(place, size, b"OCHK")[4:] if modern else file.at(place, size))
            elif kind > NEWEST and message.flags & MUST_BE_KNOWN:
                raise ValueError(f"a message of the unknown kind {kind}")
            elif kind:
                result.append(message)
    return result


def one(file: Counted, found: list[Message], kind: int) -> bytes:
    """The body of the message of a kind, wherever it is; empty if there is none.

    Raises:
        ValueError, struct.error: it is shared in a way that is not read.
    """
    for message in found:
        if message.kind == kind:
            return shared(file, message.body, kind) if message.flags & SHARED else message.body
    return b""


def shared(file: Counted, body: bytes, kind: int) -> bytes:
    """A message of another object, which this one names (IV.A.2, shared message): a type with a name of its own.

    Raises:
        ValueError, struct.error: it is not there, or in the file's heap of shared messages.
    """
    version, where = body[0], body[1]
    if version not in (1, 2, 3) or (version == 3 and where != 2):
        raise NotRead("messages shared by several objects are not read")
    (address,) = struct.unpack_from("<Q", body, 8 if version == 1 else 2)
    for message in messages(file, address):
        if message.kind == kind and not message.flags & SHARED:
            return message.body
    raise ValueError(f"no shared message at {address}")
