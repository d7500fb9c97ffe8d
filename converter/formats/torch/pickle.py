"""Pickle, interpreted as data.  Nothing is imported, called or executed.

A pickle is a program for a stack machine.  Python's own unpickler runs it: GLOBAL
imports, REDUCE calls.  This interpreter knows the same opcodes (CPython,
Lib/pickletools.py) but calls only the builders it is given, each a pure function of
ours; any other global becomes an inert ``Record`` and its name is reported.  A
global that could only be there to run code is refused outright.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from converter.core import bounds
from converter.core.checkpoint import Record, Unordered
from converter.core.errors import UnreadableFile, UnsafeFile
from converter.core.mapping import WINDOW, content, is_mapped
from converter.formats.torch.by_value import is_class, is_inert, runs, type_name

Builder = Callable[..., Any]

DANGEROUS_MODULES = frozenset(
    """os posix nt subprocess pty sys importlib imp runpy codeop ctypes cffi socket ssl http urllib requests ftplib
    smtplib telnetlib webbrowser shutil tempfile multiprocessing threading _thread asyncio concurrent
    pickle _pickle cPickle dill cloudpickle joblib marshal shelve pdb bdb timeit cProfile
    commands pip setuptools distutils popen2 pydoc gc atexit faulthandler mmap venv ensurepip
    idlelib lib2to3 doctest unittest nose pytest""".split()
)
FILES = frozenset(
    """commands imp runpy codeop ftplib smtplib telnetlib webbrowser shutil tempfile pickle _pickle cPickle shelve pdb
    bdb timeit cProfile popen2 pydoc doctest""".split()
)
"""Of these the modules that are one file in the standard library: what is in ``shutil.nets`` is somebody's own."""

SHARED_NAMES: Mapping[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "code": "InteractiveConsole InteractiveInterpreter interact compile_command codeop sys traceback builtins",
        "inspect": "getattr_static getmembers getmodule importlib sys os builtins linecache ast functools types",
        "profile": "run runctx main Profile importlib io sys marshal",
        "resource": "setrlimit prlimit",
        "signal": "alarm pthread_kill raise_signal setitimer siginterrupt signal sigqueue",
        "trace": "Trace CoverageResults Ignore main sys linecache pickle sysconfig threading inspect os",
    }.items()
}
"""Modules of the standard library by whose names people call their own, and what runs code in the library's."""

DANGEROUS_BUILTINS = frozenset(
    "eval exec execfile compile __import__ open file input raw_input breakpoint globals locals vars exit quit help "
    "memoryview reload apply".split()
)
DANGEROUS = frozenset(
    """io.open io.open_code io.FileIO _io.open _io.open_code _io.FileIO codecs.open
    torch.load torch.hub.load torch.hub.load_state_dict_from_url torch.jit.load torch.serialization.load
    torch.utils.cpp_extension.load torch.utils.cpp_extension.load_inline torch.ops.load_library
    torch.classes.load_library
    numpy.load numpy.fromfile numpy.testing._private.utils.runstring numpy.f2py.compile
    numpy.distutils.exec_command
    pandas.eval pandas.read_pickle sklearn.utils.estimator_checks operator.attrgetter operator.methodcaller
    _operator.attrgetter _operator.methodcaller types.FunctionType types.CodeType functools.reduce""".split()
)

DATA = frozenset(f"{home}.NumpyArrayWrapper" for home in ("joblib.numpy_pickle", "joblib.numpy_pickle_utils"))
"""Classes in such modules that only describe data."""

LARGE = 1 << 16
OPCODE = 16
"""Bytes that the longest opcode has before what it says the length of."""
SIZED = (str, bytes, bytearray, memoryview, list, tuple, dict)
PACKED = 1 << 8
"""Bytes that a checkpoint has at least."""
PACKED_HEAD = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
"""How bytes begin that may be a checkpoint themselves: torch's zip, or a pickle."""
PACKED_TEXT = tuple(head.decode("latin-1") for head in PACKED_HEAD)
ENCODED = "_codecs.encode"
"""What makes bytes of text where a protocol has none."""
SMALL = 1 << 53
"""Below, no two integers have the same hash."""


class Global(NamedTuple):
    """A name the pickle would have imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


RECONSTRUCTORS = Global("copyreg", "_reconstructor"), Global("copy_reg", "_reconstructor")


def refuse_dangerous(name: Global, where: str) -> None:
    """Raise UnsafeFile for a global that has no business in a file of weights."""
    top, _, below = name.module.partition(".")
    full, first = str(name), name.name.partition(".")[0]
    builtin = top in ("builtins", "__builtin__") and first in DANGEROUS_BUILTINS
    module = top in DANGEROUS_MODULES and not (below and top in FILES)
    shared = not below and first in SHARED_NAMES.get(top, ())
    if is_class(name.module, name.name):
        raise UnsafeFile(
            f"{where}: refused, the pickle brings the code of a class of its own ({full}), which objects in it need; "
            "nothing was executed; save its state_dict() instead"
        )
    module = module and full not in DATA and not is_inert(name.module, name.name)
    if module or builtin or shared or full in DANGEROUS:
        raise UnsafeFile(f"{where}: refused, the pickle asks for {full} (code to run); nothing was executed")


class Pickle:
    """A reader of the pickles in a stream of bytes.

    Args:
        data: the bytes; several pickles may follow each other, ``end`` tells where one stopped.
        where: names the file in errors.
        builders: what to call for a global that is reduced or instantiated.
        persistent: turns a persistent id into an object.
        depth: how many pickles this one is inside of.

    Attributes:
        built: what becomes of a record once its state is known; data may follow it in the stream.
    """

    def __init__(
        self,
        data: memoryview | bytes,
        where: str,
        *,
        builders: Mapping[str, Builder] | None = None,
        persistent: Callable[[Any], Any] | None = None,
        depth: int = 0,
    ) -> None:
        self.data = memoryview(data)
        self.where = where
        self.builders = builders or {}
        self.persistent = persistent
        self.depth = depth
        self._at = self._first = 0  # the next byte in the part that is looked at, which begins at the other
        self._room = 0  # before where an opcode must begin in it
        self._part = memoryview(b"")
        self._size = WINDOW if is_mapped(self.data) else len(self.data)
        self.inert: dict[str, None] = {}
        self.copied = 0  # length of all that builders were given
        self.made = 0  # objects, those of builders twice
        self.built: Callable[[Record], Any] = lambda record: record

    @property
    def end(self) -> int:
        """Where in the stream the next byte is."""
        return self._first + self._at

    def load(self) -> Any:
        """Interpret one pickle, from ``end`` to its STOP.

        Raises:
            UnreadableFile: it is no pickle, truncated, or uses what we do not know.
            UnsafeFile: it names something that runs code.
        """
        try:
            return self._run()
        except (UnreadableFile, UnsafeFile):
            raise
        except IndexError as error:
            raise UnreadableFile(f"{self.where}: damaged or truncated pickle at byte {self.end}") from error
        except (struct.error, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise UnreadableFile(
                f"{self.where}: damaged pickle at byte {self.end} ({type(error).__name__}: {error})"
            ) from error

    # -- machine ---------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        """The next ``n`` bytes of the stream (also for data that stands between pickles), many as they lie there."""
        start = self.end
        if n < 0 or start + n > len(self.data):
            raise UnreadableFile(f"{self.where}: truncated, a pickle ends in the middle")
        if self._at + n > len(self._part):
            if n > self._size:
                self._look(start + n)
                return self.data[start : start + n]
            self._look(start)
        self._at += n
        return self._part[self._at - n : self._at]

    def _look(self, start: int) -> None:
        """Go on at a byte, with those behind it at hand: a copy of a few if the stream is a mapped file, or all."""
        self._first, self._at = start, 0
        self._part = content(self.data[start : start + self._size])
        last = start + len(self._part) == len(self.data)
        self._room = len(self._part) - (0 if last else OPCODE)

    def _line(self) -> bytes:
        # Text opcodes only hold names and numbers: look a little ahead at a time, never copy the file.
        start, step = self.end, 256
        while True:
            if self._at + step > len(self._part):
                self._look(start)
            seen = self._part[self._at :] if step <= self._size else content(self.data[start : start + step])
            chunk = bytes(seen[:step])
            at = chunk.find(b"\n")
            if at >= 0:
                self._at += at + 1
                return chunk[:at]
            if start + step >= len(self.data) or step > 1 << 20:
                raise UnreadableFile(f"{self.where}: truncated, a pickle ends in the middle")
            step *= 4

    def _byte(self) -> int:
        at = self._at
        self._at = at + 1
        return self._part[at]

    def _uint(self, n: int) -> int:
        return self._byte() if n == 1 else int.from_bytes(self.take(n), "little")

    def _steady(self, n: int) -> memoryview:
        """The next ``n`` bytes, which no change of the file can take away: few are a copy already (:meth:`_look`)."""
        taken = self.take(n)
        return taken if n <= self._size else content(taken)

    def _integer(self, n: int) -> int:
        return int.from_bytes(self._steady(n), "little", signed=True)

    def _text(self, n: int) -> str:
        return str(self._steady(n), "utf-8", "surrogatepass")

    def _run(self) -> Any:
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop_mark() -> list[Any]:
            at = marks.pop()
            items = stack[at:]
            del stack[at:]
            return items

        for _ in range(bounds.OPCODES + len(self.data) // 2):
            if self._at >= self._room:
                self._look(self.end)
            at, data = self._at, self._part
            op = data[at]
            # The four commonest by far stand alone: a checkpoint is tens of thousands of opcodes.
            if op == 0x71:  # BINPUT
                memo[data[at + 1]] = stack[-1]
                self._at = at + 2
                continue
            if op == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(data[at + 1 : at + 5], "little")] = stack[-1]
                self._at = at + 5
                continue
            if op == 0x4B:  # BININT1
                stack.append(data[at + 1])
                self._at = at + 2
                continue
            if op == 0x58:  # BINUNICODE, where all of it is at hand
                end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "little")
                if end <= len(data):
                    stack.append(str(data[at + 5 : end], "utf-8", "surrogatepass"))
                    self._at = end
                    continue
            self._at = at + 1
            match op:
                # what tensors are made of, first because there is most of it
                case 0x58 | 0x8C | 0x8D:  # BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
                    stack.append(self._text(self._uint(4 if op == 0x58 else 1 if op == 0x8C else 8)))
                case 0x28:  # MARK
                    marks.append(len(stack))
                case 0x68 | 0x6A:  # BINGET, LONG_BINGET
                    stack.append(memo[self._byte() if op == 0x68 else self._uint(4)])
                case 0x85 | 0x86 | 0x87:  # TUPLE1, 2, 3
                    n = op - 0x84
                    self._counted()
                    stack[-n:] = [tuple(stack[-n:])]
                case 0x4D:  # BININT2
                    stack.append(self._uint(2))
                case 0x74:  # TUPLE
                    self._counted()
                    stack.append(tuple(pop_mark()))
                case 0x52 | 0x81:  # REDUCE, NEWOBJ
                    args = stack.pop()
                    stack.append(self._make(stack.pop(), tuple(args), {}))
                case 0x51:  # BINPERSID
                    stack.append(self._persistent(stack.pop()))
                case 0x29:  # EMPTY_TUPLE
                    stack.append(())
                # what takes one byte, of which a file can have most
                case 0x94:  # MEMOIZE
                    memo[len(memo)] = stack[-1]
                    if len(memo) > bounds.MEMO + len(self.data) // 6:
                        raise UnreadableFile(f"{self.where}: the pickle remembers more than one object for six bytes")
                case 0x62:  # BUILD
                    state = stack.pop()
                    _build(stack[-1], state)
                    if isinstance(stack[-1], Record):
                        stack[-1] = self.built(stack[-1])
                case 0x65 | 0x90:  # APPENDS, ADDITEMS
                    items = pop_mark()
                    _extend(stack[-1], items)
                case 0x7D:  # EMPTY_DICT
                    self._counted()
                    stack.append({})
                case 0x5D:  # EMPTY_LIST
                    self._counted()
                    stack.append([])
                case 0x8F:  # EMPTY_SET
                    self._counted()
                    stack.append(Unordered())
                case 0x61:  # APPEND
                    value = stack.pop()
                    _extend(stack[-1], [value])
                case 0x73:  # SETITEM
                    value, key = stack.pop(), stack.pop()
                    _set(stack[-1], [key, value])
                case 0x75:  # SETITEMS
                    items = pop_mark()
                    _set(stack[-1], items)
                case 0x6C:  # LIST
                    self._counted()
                    stack.append(pop_mark())
                case 0x91:  # FROZENSET
                    self._counted()
                    stack.append(tuple(pop_mark()))
                case 0x64:  # DICT
                    self._counted()
                    stack.append(_pairs(pop_mark(), {}))
                case 0x93:  # STACK_GLOBAL
                    name, module = stack.pop(), stack.pop()
                    if not isinstance(module, str) or not isinstance(name, str):
                        raise UnreadableFile(f"{self.where}: damaged pickle, a class whose name is no text")
                    stack.append(self._global(module, name))
                case 0x92:  # NEWOBJ_EX
                    kwargs, args = stack.pop(), stack.pop()
                    stack.append(self._make(stack.pop(), tuple(args), kwargs))
                case 0x6F:  # OBJ
                    items = pop_mark()
                    stack.append(self._make(items[0], tuple(items[1:]), {}))
                case 0x88 | 0x89:  # NEWTRUE, NEWFALSE
                    stack.append(op == 0x88)
                case 0x4E:  # NONE
                    stack.append(None)
                case 0x32:  # DUP
                    stack.append(stack[-1])
                case 0x30:  # POP
                    if marks and marks[-1] == len(stack):
                        marks.pop()
                    else:
                        stack.pop()
                case 0x31:  # POP_MARK
                    pop_mark()
                case 0x2E:  # STOP
                    return stack.pop()
                # plain values
                case 0x4A:  # BININT
                    stack.append(struct.unpack("<i", self.take(4))[0])
                case 0x8A | 0x8B:  # LONG1, LONG4
                    stack.append(self._integer(self._uint(1 if op == 0x8A else 4)))
                case 0x49:  # INT
                    text = self._line()
                    stack.append({b"00": False, b"01": True}.get(text, int(text)))
                case 0x4C:  # LONG
                    stack.append(int(self._line().rstrip(b"L")))
                case 0x47:  # BINFLOAT
                    stack.append(struct.unpack(">d", self.take(8))[0])
                case 0x46:  # FLOAT
                    stack.append(float(self._line()))
                case 0x56:  # UNICODE
                    stack.append(str(self._line(), "raw-unicode-escape"))
                case 0x54 | 0x55:  # BINSTRING, SHORT_BINSTRING: Python 2 strings
                    stack.append(str(self._steady(self._uint(4 if op == 0x54 else 1)), "latin-1"))
                case 0x53:  # STRING
                    stack.append(self._line().strip(b"'\"").decode("unicode-escape"))
                case 0x42 | 0x43 | 0x8E | 0x96:  # BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
                    stack.append(self.unpacked(self.take(self._uint({0x42: 4, 0x43: 1}.get(op, 8)))))
                # the rest of the machine
                case 0x80:  # PROTO
                    self._uint(1)
                case 0x95:  # FRAME
                    self._uint(8)
                case 0x70:  # PUT
                    memo[int(self._line())] = stack[-1]
                case 0x67:  # GET
                    stack.append(memo[int(self._line())])
                case 0x63:  # GLOBAL
                    module, name = self._line().decode(), self._line().decode()
                    stack.append(self._global(module, name))
                case 0x69:  # INST
                    cls = self._global(self._line().decode(), self._line().decode())
                    stack.append(self._make(cls, tuple(pop_mark()), {}))
                case 0x50:  # PERSID
                    stack.append(self._persistent(self._line().decode()))
                case _:
                    raise UnreadableFile(
                        f"{self.where}: not a pickle we know (opcode {op:#04x} at byte {self.end - 1})"
                    )
        raise UnreadableFile(f"{self.where}: a pickle of more opcodes than one for two bytes")

    def _counted(self, by: int = 1) -> None:
        """Count what was made; a list of nothing takes one byte of the file, and sixty of memory."""
        self.made += by
        if self.made > bounds.OBJECTS + len(self.data) // 6:
            raise UnreadableFile(f"{self.where}: the pickle makes more objects than one for six of its bytes")

    def _global(self, module: str, name: str) -> Global:
        result = Global(module, name)
        refuse_dangerous(result, self.where)
        if str(result) not in self.builders:
            self.inert[str(result)] = None
        return result

    def _make(self, cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._counted(2)
        for value in args:
            if isinstance(value, SIZED):
                self.copied += len(value)
        if self.copied > bounds.COPIES * len(self.data) + LARGE:
            raise UnreadableFile(
                f"{self.where}: the pickle asks for copies of copies, more than {bounds.COPIES} times its size"
            )
        if not isinstance(cls, Global):
            if what := runs(cls):
                raise UnsafeFile(f"{self.where}: refused, the pickle calls {what}; nothing was executed")
            name = type_name(cls)
            build = self.builders.get(f"builtins.{name.removesuffix('Type').lower()}") if name else None
            return build(*args) if build else Record(f"types.{name}" if name else "<object>", args)
        if cls in RECONSTRUCTORS and args and isinstance(args[0], Global):
            cls, args = args[0], ()
        called = str(cls)
        if called == ENCODED and args and isinstance(args[0], str) and args[0].startswith(PACKED_TEXT):
            found = self.unpacked(args[0].encode("latin-1", "replace"))
            if not isinstance(found, (bytes, memoryview)):
                return found
        build = self.builders.get(called)
        if build is not None:
            return build(*args)
        return Record(called, args, dict(kwargs) or None)

    def unpacked(self, data: memoryview | bytes) -> Any:
        """Bytes as they are, large ones as a view of the file; what they hold if that is a checkpoint."""
        data = bytes(content(memoryview(data))) if len(data) < LARGE else data
        if len(data) >= PACKED and bytes(content(memoryview(data)[:4])).startswith(PACKED_HEAD):
            with suppress(UnreadableFile):
                return self.nested(data)
        return data

    def nested(self, data: memoryview | bytes) -> Any:
        """What bytes hold that are a checkpoint themselves.

        Raises:
            UnreadableFile: they are none, or too deep within each other.
            UnsafeFile: they ask for code to be run.
        """
        from converter.formats.torch.nested import read_nested  # noqa: PLC0415 (for few, which need all containers)

        if self.depth >= bounds.PICKLES:
            raise UnreadableFile(f"{self.where}: more than {bounds.PICKLES} pickles within each other")
        tree, inert = read_nested(data, self.where, self.depth + 1)
        self.inert |= dict.fromkeys(inert)
        return tree

    def _persistent(self, pid: Any) -> Any:
        if self.persistent is None:
            raise UnreadableFile(f"{self.where}: the pickle refers to data outside itself")
        return self.persistent(pid)


def _extend(target: Any, items: list[Any]) -> None:
    (target.items if isinstance(target, Record) else target).extend(items)


def _pairs(items: list[Any], target: dict[Any, Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value
    return target


def _key(key: Any) -> Any:
    """A key that is cheap to hash and to print: names and small numbers, and short tuples of these."""
    if key is None or isinstance(key, (str, bytes, bool, float)):
        return key
    if isinstance(key, int):
        return key if -SMALL < key < SMALL else hex(key)
    if isinstance(key, tuple) and len(key) <= 8 and all(isinstance(k, (str, int, float, bytes)) for k in key):
        return tuple(map(_key, key))
    return f"<{type(key).__name__} {id(key)}>"


def _set(target: Any, items: list[Any]) -> None:
    if isinstance(target, Record):
        target.state = _pairs(items, target.state if isinstance(target.state, dict) else {})
    else:
        _pairs(items, target)


def _build(target: Any, state: Any) -> None:
    if isinstance(target, Record):
        if isinstance(target.state, dict) and isinstance(state, dict):
            target.state.update(state)
        else:
            # (dict, slots) is what objects with __slots__ give
            pair = isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict)
            target.state = {**(state[0] or {}), **state[1]} if pair and isinstance(state[0], dict | None) else state
    elif isinstance(target, StateDict) and isinstance(state, dict):
        target.attributes.update(state)
    # Attributes set on anything else (a tensor's hooks) carry no weights.


class StateDict(dict[Any, Any]):
    """An OrderedDict of the file, with the attributes set on it (``_metadata`` names every module)."""

    __slots__ = ("attributes",)

    def __init__(self, items: Any = ()) -> None:
        super().__init__((k, v) for k, v in (items.items() if isinstance(items, dict) else items))
        self.attributes: dict[str, Any] = {}
