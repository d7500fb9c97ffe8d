"""The wire format of Protocol Buffers, and prototxt."""

from __future__ import annotations

import pytest
from helpers.wire import data, fixed32, number, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core.errors import UnreadableFile
from converter.formats.protobuf import fields, signed, varints
from converter.formats.prototxt import parse


@settings(max_examples=80)
@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_refused(content):
    try:
        for _, _, value in fields(memoryview(content)):
            if not isinstance(value, int):
                list(varints(value))
    except UnreadableFile:
        pass


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints(values):
    assert list(varints(memoryview(b"".join(map(varint, values))))) == values


def test_fields():
    content = number(1, 300) + data(2, b"ab") + fixed32(3, b"wxyz") + varint(4 << 3 | 1) + bytes(8)
    assert [(n, w, v if isinstance(v, int) else bytes(v)) for n, w, v in fields(memoryview(content))] == [
        (1, 0, 300),
        (2, 2, b"ab"),
        (3, 5, b"wxyz"),
        (4, 1, bytes(8)),
    ]
    assert signed((1 << 64) - 1) == -1 and signed(5) == 5
    for malformed in (b"\x00\x00", b"\x0b", b"\x0a\x05a", b"\x08" + b"\xff" * 10, b"\x08", b"\x0d123"):
        with pytest.raises(UnreadableFile):
            list(fields(memoryview(malformed)))


@pytest.mark.parametrize("text", ["}", "a {", "{ a: 1 }", "1", '"a"', "a: $", "a {" * 100, 'a: "b'])
def test_malformed_prototxt(text):
    with pytest.raises(UnreadableFile):
        parse(text)


def test_prototxt():
    assert parse("a: 1 # b: 2\nc { d: 'e' d: \"f\" } c < d: [g, h] >\nname: 'x:y'") == {
        "a": ["1"],
        "c": [{"d": ["e", "f"]}, {"d": ["g", "h"]}],
        "name": ["x:y"],
    }
