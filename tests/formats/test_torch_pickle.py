"""The pickle interpreter: agrees with Python on plain values, runs nothing, refuses what would run."""

import collections
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.core.checkpoint import Record
from converter.core.errors import UnreadableFile, UnsafeFile
from converter.formats.torch.pickle import Pickle

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(-(1 << 40), 1 << 40), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain, st.integers(0, 5))
def test_plain_values_read_as_python_reads_them(value: object, protocol: int) -> None:
    builders = {
        "_codecs.encode": lambda text, encoding: text.encode(encoding),
        "builtins.bytes": bytes,
        "__builtin__.bytes": bytes,
    }
    assert Pickle(pickle.dumps(value, protocol), "x", builders=builders).load() == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_clear_error(data: bytes) -> None:
    try:
        Pickle(data, "x").load()
    except (UnreadableFile, UnsafeFile) as error:
        assert "\n" not in str(error)


@given(plain, st.data())
def test_truncation_is_noticed(value: object, data: st.DataObject) -> None:
    whole = pickle.dumps(value, 2)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(UnreadableFile):
        Pickle(whole[:cut], "x").load()


class Call:
    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "touch {}"),
        Call(subprocess.check_output, ["touch", "{}"]),
        Call(eval, "open('{}', 'w')"),
        Call(exec, "open('{}', 'w')"),
        Call(open, "{}", "w"),
        Call(__import__, "os"),
        Call(os.execv, "/bin/sh", ["sh"]),
        Call(pickle.loads, b"."),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_code_is_refused_by_name_and_not_run(call: Call, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    function, args = call.call
    named = tuple(a.format(marker) if isinstance(a, str) else a for a in args)
    with pytest.raises(UnsafeFile, match=function.__name__):
        Pickle(pickle.dumps({"weights": Call(function, *named)}, protocol), "x").load()
    assert not marker.exists()


@pytest.mark.parametrize("data", [b"cos\nsystem\n.", b"cposix\nsystem\n(S'true'\ntR.", b"(S'true'\nios\nsystem\n."])
def test_code_in_text_opcodes_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeFile, match="system"):
        Pickle(data, "x").load()


def test_other_classes_become_inert_records_and_are_reported() -> None:
    counter = collections.Counter("abracadabra")
    reader = Pickle(pickle.dumps([counter, Path("a")]), "x")
    first, second = reader.load()
    assert isinstance(first, Record)
    assert first.cls == "collections.Counter"
    assert isinstance(second, Record)
    assert any("collections.Counter" in name for name in reader.inert)


def test_shared_and_cyclic_objects_stay_so() -> None:
    shared: list[object] = [1]
    shared.append(shared)
    value = Pickle(pickle.dumps([shared, shared]), "x").load()
    assert value[0] is value[1]
    assert value[0][1] is value[0]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"K\x01s.",  # a tuple nested 300,000 deep as a key
        b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",  # a key that takes 2^60 steps to hash
        b"\x80\x02)" + b"2\x86" * 60 + b"X\x01\x00\x00\x00a\x93.",  # a module's name that takes 2^60 characters
        b"\x80\x02}" + b"\x8b\xff\xff\x03\x00" + b"\x01" * 0x3FFFF + b"K\x01s.",  # a number of 600,000 digits as a key
    ],
)
def test_values_made_to_be_slow_are_not(data: bytes) -> None:
    try:
        Pickle(data, "x").load()
    except UnreadableFile as error:
        assert len(str(error)) < 500
