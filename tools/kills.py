"""Kill every verb, at random moments and at every file operation, and look at what is left.

    python tools/kills.py [--kills 300] [--seed 0] [--operations package,convert] [--same-pid]

After each kill (SIGKILL, which no program can answer) the target must be what it was, what it was to become, or (a
package that was being moved) known by the next run as unfinished.  The next run must succeed, leave exactly what an
undisturbed run leaves, and no litter of the killed one.  ``--same-pid`` runs each command in a process namespace of its
own, where it always has the same id (2, below a shell), as in a container (Linux, as root).  Exit status 0 when all hold, 1 otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.demo.demo import CHECKPOINT, IMAGES

IMAGE = str(min(IMAGES.glob("*/*.png")))
REPO = "owner/name"

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"
DENSENET = "from converter.cli import main; main()"
AT_OPERATION = """
import os, signal, sys
count, at, here = 0, int(sys.argv.pop(1)), sys.argv.pop(1)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.link")
def hook(event, args):
    global count
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if (writes or event in CHANGES) and str(args[0]).startswith(here):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from converter.cli import main
try:
    main()
finally:
    print("operations:", count, file=sys.stderr)
"""
"""A run that kills itself before one of its file operations; it tells how many there are."""


@dataclass(frozen=True)
class Verb:
    """A command to kill: its words, and what it leaves in its folder."""

    name: str
    words: tuple[str, ...]
    leaves: tuple[str, ...] = ()
    torch: bool = False
    """Whether it needs PyTorch, whose start takes most of a run's time."""


def verbs(url: str) -> list[Verb]:
    """Every verb that reads a checkpoint, on the small model that ships with the package.

    Args:
        url: where to download it from, if the stand-ins for servers are at hand; without them nothing is pushed.
    """
    source = str(CHECKPOINT)
    tables, reports = ("p.csv", "f.npy", "f.rows.csv"), ("e.json", "e.csv", "e.html")
    verdicts = ("r.npz", "r.json", "r.md", "r.html", "r.xml")
    found = [
        Verb("convert", ("convert", source, "out.safetensors"), ("out.safetensors",)),
        Verb("convert to .pth", ("convert", source, "out.pth"), ("out.pth",)),
        Verb("convert to .h5", ("convert", source, "out.h5"), ("out.h5",)),
        Verb("export", ("export", source, "out.onnx"), ("out.onnx",)),
        Verb("package", ("package", source, "out", "--onnx", "none"), ("out",)),
        Verb("verify", ("verify", source, "--record", "r.npz", *options("--report", verdicts[1:])), verdicts, True),
        Verb("inspect", ("inspect", source, "--save-layout", "l.toml"), ("l.toml",)),
        Verb("predict", ("predict", source, IMAGE, "-o", "p.csv", "--features", "f.npy"), tables),
        Verb("evaluate", ("evaluate", source, str(IMAGES), *options("-o", reports)), reports),
        Verb("inspect, packed", ("inspect", "packed.pth.gz")),
    ]
    served = Verb("download", ("inspect", url)), Verb("push", ("push", source, REPO, "--onnx", "none"))
    return [*found, *served] if url else found


def options(name: str, values: tuple[str, ...]) -> list[str]:
    """An option given for each of these values."""
    return [word for value in values for word in (name, value)]


class Place:
    """A folder to run in, with a folder for temporary files and a home of its own."""

    def __init__(self, root: Path, same_pid: bool, environment: dict[str, str]) -> None:
        self.root, self.same_pid = root, same_pid
        self.here, self.temporary, self.home = root / "here", root / "tmp", root / "home"
        ours = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "DENSENET_HOME"), str(self.home))
        self.environment = {**os.environ, **homes, "PYTHONPATH": ours, "TMPDIR": str(self.temporary), **environment}

    def clear(self) -> None:
        """Begin anew."""
        for folder in (self.here, self.temporary, self.home):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        import gzip

        (self.here / "packed.pth.gz").write_bytes(gzip.compress(CHECKPOINT.read_bytes(), mtime=0))

    def start(self, verb: Verb, code: str = DENSENET, *more: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        below_a_shell = "sh", "-c", '"$@"; exit $?', "sh"  # the first process of a namespace cannot kill itself
        prefix = ("unshare", "--pid", "--fork", "--kill-child", *below_a_shell) if self.same_pid else ()
        return subprocess.Popen(
            [*prefix, sys.executable, "-c", code if verb.torch else WITHOUT_TORCH + code, *more, *verb.words],
            cwd=self.here,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def left(self) -> dict[str, str]:
        """Every file that is there, with the hash of its content, but for what a verdict's clock makes differ."""
        files = [path for folder in (self.here, self.temporary, self.home) for path in folder.rglob("*")]
        return {
            str(path.relative_to(self.root)): "" if path.is_dir() or (path.stem == "r" and path.suffix != ".npz")
            else hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }  # fmt: skip


def judged(place: Place, verb: Verb, good: dict[str, str], before: dict[str, str]) -> str:
    """What is wrong after a kill and a run after it; nothing if all is well."""
    left = place.left()
    for path, content in left.items():
        ours = path.split("/")[1] in verb.leaves and path in good
        if ours and content not in (good[path], before.get(path)):
            return f"{path} is torn"
    again = place.start(verb)
    _, said = again.communicate(timeout=600)
    if again.returncode:
        return f"the next run has status {again.returncode}: {said.strip()[-200:]}"
    now = place.left()
    if now != good:
        strange = sorted(now.keys() - good.keys())
        lacking = sorted(good.keys() - now.keys())
        other = sorted(name for name in now.keys() & good.keys() if now[name] != good[name])
        return f"after the next run: litter {strange}, missing {lacking}, other content {other}"
    return ""


def undisturbed(place: Place, verb: Verb) -> tuple[dict[str, str], float]:
    """What a run leaves that nobody kills, and how long it takes."""
    place.clear()
    start = time.perf_counter()
    process = place.start(verb)
    _, said = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"{verb.name}: fails undisturbed: {said}")
    return place.left(), time.perf_counter() - start


def at_random(place: Place, verb: Verb, kills: int, dice: random.Random) -> Iterator[str]:
    """Kill a verb at random moments; half of the time over what an earlier run left."""
    good, seconds = undisturbed(place, verb)
    for _ in range(kills):
        if dice.random() < 0.5:
            place.clear()
        before = place.left()
        process = place.start(verb)
        with suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0.0, 1.1 * seconds))
        end(process)
        yield judged(place, verb, good, before)


def at_operations(place: Place, verb: Verb) -> Iterator[str]:
    """Kill a verb before each of its file operations, in an empty folder and over what an earlier run left."""
    for over in (False, True):
        good, _ = undisturbed(place, verb)
        place.clear()
        if over:
            place.start(verb).communicate()
        counting = place.start(verb, AT_OPERATION, "0", str(place.root))
        _, said = counting.communicate(timeout=600)
        count = int(said.rpartition("operations:")[2])
        for at in range(1, count + 1):
            place.clear()
            if over:
                place.start(verb).communicate()
            before = place.left()
            place.start(verb, AT_OPERATION, str(at), str(place.root)).communicate(timeout=600)
            wrong = judged(place, verb, good, before)
            yield f"operation {at} of {count}{', over an old one' if over else ''}: {wrong}" if wrong else ""


def end(process: subprocess.Popen[str]) -> None:
    """Kill a command and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextmanager
def servers(root: Path) -> Iterator[tuple[dict[str, str], str]]:
    """A stand-in for the Hub and a slow server of the model, where the tests are at hand; environment and address."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    try:
        from helpers.hub_server import Hub
        from helpers.web import Handler, QuietServer
    except ImportError:
        yield {}, ""
        return

    server: Any = QuietServer(("127.0.0.1", 0), Handler)
    server.data, server.etag, server.ranges, server.length, server.shift = CHECKPOINT.read_bytes(), '"1"', True, True, 0
    server.status = server.redirect = server.date = None
    server.drops, server.requests, server.sent, server.delay, server.lock = [], [], 0, 0.1, threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Hub() as hub:
        yield hub.environment(root / "hub"), f"http://127.0.0.1:{server.server_address[1]}/model.safetensors"
    server.shutdown()


def main() -> int:
    """Kill, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="at random moments, over all verbs")
    parser.add_argument("--operations", default="package", help="verbs to kill at every file operation")
    parser.add_argument("--only", default="", help="only verbs whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same-pid", action="store_true", help="each run in a process namespace of its own")
    args = parser.parse_args()
    total, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (environment, url):
        place = Place(Path(folder), args.same_pid, environment)
        chosen = [verb for verb in verbs(url) if args.only in verb.name]
        works: list[tuple[str, Callable[[], Iterator[str]]]] = []
        for i, verb in enumerate(chosen):
            share = args.kills // len(chosen) + (i < args.kills % len(chosen))
            dice = random.Random(f"{args.seed} {verb.name}")
            works.append((verb.name, lambda v=verb, n=share, d=dice: at_random(place, v, n, d)))  # type: ignore[misc]
            if verb.name in args.operations.split(","):
                works.append((f"{verb.name}, operations", lambda v=verb: at_operations(place, v)))  # type: ignore[misc]
        for name, work in works:
            found = []
            for problem in work():
                found.append(problem)
                print("x" if problem else ".", end="", file=sys.stderr, flush=True)
            total[name] = len(found)
            wrong += [f"{name}: {problem}" for problem in found if problem]
            print(f"{name:28} {len(found):4} kills, {sum(map(bool, found))} wrong", flush=True)
    print("\n".join(wrong))
    print(f"{total.total()} kills, {len(wrong)} wrong")
    return 1 if wrong or not total.total() else 0


if __name__ == "__main__":
    sys.exit(main())
