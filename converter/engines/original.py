"""The original: the user's own network, run by their own code, in a process of its own.

Nothing of their code is imported here.  ``original_process.py`` imports it, by the user's
explicit wish, and answers one batch after another.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.core.files import scratch
from converter.core.model import Model
from converter.core.text import clean

PROCESS = Path(__file__).with_name("original_process.py")
NAMES = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
SECONDS = 600.0
MOST = 1 << 28
"""Bytes of logits of one batch that are looked at."""
TAIL = 1 << 12
"""Bytes of what their code printed last that are kept, for the case that it ends without a word."""
LINE = 1 << 22
"""Bytes of an answer; the hashes of a large network's tensors are some 100 000."""


@dataclass(frozen=True)
class Original:
    """Where the original is: a function that returns it.

    Attributes:
        spec: ``package.module:function``, importable from here, or ``path/to/file.py:function``.  The function takes
            nothing, or the checkpoint's path, and returns a ``torch.nn.Module`` (one without weights is loaded from
            the checkpoint, strictly), a Keras model, or a function from a batch of images, float32 (N, C, H, W),
            to logits.
        seconds: how long it may take to start, and for each batch.

    Raises:
        ConverterError: it is not of that form, or there is no such file.

    Example:
        >>> from converter import Original
        >>> Original("my.package:build").name
        'my.package:build'
    """

    spec: str
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        home, function = self.home, self.function
        if not home or not NAMES.fullmatch(function):
            example = f"{self.spec.rstrip(':')}:FUNCTION" if ":" not in self.spec else "package.module:function"
            raise ConverterError(f"--original {self.spec}: names no function; write {example}")
        if self.is_file and not Path(home).is_file():
            raise ConverterError(f"--original {self.spec}: no such file")
        if not self.is_file and not NAMES.fullmatch(home):
            raise ConverterError(f"--original {self.spec}: neither a module (package.module) nor a file (file.py)")
        if not self.seconds > 0:
            raise ConverterError(f"an original has more than {self.seconds:g} seconds to answer")

    @classmethod
    def of(cls, given: str | Original) -> Original:
        """An original, or its spec."""
        return given if isinstance(given, Original) else cls(given)

    @property
    def home(self) -> str:
        """The module, or the file."""
        return self.spec.rpartition(":")[0]

    @property
    def function(self) -> str:
        """The function in it."""
        return self.spec.rpartition(":")[2]

    @property
    def is_file(self) -> bool:
        """Whether its home is a file, not a module."""
        return self.home.endswith(".py") or "/" in self.home or os.sep in self.home

    @property
    def name(self) -> str:
        """What reports call it: without the folders of the machine it ran on."""
        return f"{Path(self.home).name if self.is_file else self.home}:{self.function}"


class Ended(ConverterError):
    """The process of the original is gone: it crashed, or took too long."""


class OriginalProcess:
    """A running original.

    Attributes:
        kind: ``torch``, ``keras`` or ``function``.
        loaded: where its weights come from, in words.
        weights: SHA-256 of every tensor of a torch module, as float32.
    """

    def __init__(self, original: Original, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.original, self.process, self.folder = original, process, folder
        self.kind, self.loaded, self.weights = "", "", frozenset[str]()
        self.asked = 0
        self.tail = b""
        self.answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for work in (self._listen, self._drain):
            threading.Thread(target=work, daemon=True).start()

    def start(self, path: Path, model: Model) -> None:
        """Have it import the code and make the network.

        Raises:
            ConverterError: it cannot; says why in one line.
        """
        original = self.original
        question = {
            "home": str(Path(original.home).resolve()) if original.is_file else original.home,
            "file": original.is_file,
            "function": original.function,
            "path": str(path.resolve()),
            "inside": model.origin.inside,
            "prefix": model.origin.prefix,
            "channels": model.config.in_channels,
        }
        try:
            found = self._ask(question)
        except ConverterError as error:
            raise type(error)(f"the original ({original.name}) cannot be started: {error}") from error
        try:
            self.kind, self.loaded = str(found["kind"]), str(found["loaded"])
            self.weights = frozenset(map(str, found["weights"]))
        except (KeyError, TypeError) as error:
            raise self._garbled() from error

    def run(self, images: Array, *, double: bool = False) -> Array:
        """Logits of a batch, float32; of a torch module in float64 on request, if it computes in that.

        Raises:
            Ended: the process is gone.
            ConverterError: it raised something, or gave no logits.
        """
        where = {name: str(self.folder / f"{name}.npy") for name in ("input", "output")}
        np.save(where["input"], images, allow_pickle=False)
        try:
            self._ask({**where, "double": double})
            logits = np.load(where["output"], mmap_mode="r", allow_pickle=False)
            if logits.nbytes > MOST or logits.dtype not in (np.float32, np.float64):
                raise ConverterError(f"it gave {logits.dtype} {list(logits.shape)}")
            return np.array(logits)
        except (OSError, ValueError) as error:
            raise self._garbled() from error
        finally:
            for file in where.values():
                Path(file).unlink(missing_ok=True)

    # -- the process ----------------------------------------------------------------

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        if self.process.poll() is not None and self.asked:
            raise Ended("it had ended before")
        self.asked += 1
        assert self.process.stdin is not None
        with suppress(OSError):  # it is gone: no answer will say so
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        try:
            line = self.answers.get(timeout=self.original.seconds)
        except queue.Empty:
            stop(self.process)
            raise Ended(f"it took longer than {self.original.seconds:g} s, and was stopped") from None
        if not line:
            raise Ended(self._last_words())
        try:
            found = json.loads(line)
            problem = found.get("error")
        except (ValueError, AttributeError, RecursionError) as error:
            raise self._garbled() from error
        if problem is not None:
            raise ConverterError(clean(str(problem)))
        return dict(found)

    def _garbled(self) -> Ended:
        stop(self.process)
        return Ended("its answer cannot be understood")

    def _last_words(self) -> str:
        """How it ended, and what it printed last."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        status = self.process.returncode
        if status is not None and status < 0:
            how = f"it was killed by {signal.Signals(-status).name}"
        else:
            how = f"it ended its process{'' if status is None else f' with status {status}'}"
        lines = clean(self.tail.decode("utf-8", "replace")).strip().splitlines()
        return f"{how}; it printed last: {lines[-1][:200]}" if lines else how

    def _listen(self) -> None:
        """Answers, as they come; an empty one when there are no more."""
        out: IO[bytes] | None = self.process.stdout
        assert out is not None
        with out:
            while line := out.readline(LINE):
                self.answers.put(line)
        self.answers.put(b"")

    def _drain(self) -> None:
        """What it prints goes nowhere, but for the end of it."""
        said: IO[bytes] | None = self.process.stderr
        assert said is not None
        with said:
            while part := os.read(said.fileno(), 1 << 16):
                self.tail = (self.tail + part)[-TAIL:]


@contextmanager
def asked(original: Original, path: Path, model: Model) -> Iterator[OriginalProcess]:
    """The original, running; at the end neither its processes nor files are left.

    The model is the checkpoint at that path as we read it: it says where in the file the weights are.

    Raises:
        ConverterError: it cannot be started; says why in one line.
    """
    pipe = subprocess.PIPE
    with scratch() as folder:
        # A session of its own: what it starts in turn ends with it, and an interrupt is for us alone.
        process = subprocess.Popen(  # noqa: S603 (the user names the code to run)
            [sys.executable, "-P", "-B", str(PROCESS), str(folder)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        try:
            running = OriginalProcess(original, process, folder)
            running.start(path, model)
            yield running
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    process.wait()
