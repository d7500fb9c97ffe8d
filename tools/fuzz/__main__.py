"""The command line: makes seeds, runs one reader, counts what was found."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NoReturn

from converter.core.errors import ConverterError
from tools.fuzz.targets import READERS, Reader, opened, whole

SECONDS, MEGABYTES = 5, 1024
SLOW = 1.0
"""Seconds from which an input is kept to be looked at."""
GUIDED = ["converter.core", "converter.fetch", "converter.formats", "converter.structures", "densenet"]
"""What guides the search.  Names are tried in every layout, with loops that would take most of the time."""
LONGEST = 4096
"""Bytes of an input, unless a seed has more."""
CRASHES = 20
"""How often a reader is started anew after what ends the process."""


def main() -> int:
    """Do what the command line says; exit status 1 where something was found."""
    parser = argparse.ArgumentParser(prog="tools.fuzz", description="Coverage-guided fuzzing of every reader.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    verbs.add_parser("table").add_argument("folders", type=Path, nargs="+")
    verbs.add_parser("seeds").add_argument("folder", type=Path)
    command = verbs.add_parser("run")
    command.add_argument("folder", type=Path)
    command.add_argument("readers", nargs="*", metavar="READER", choices=[[], *READERS])
    command.add_argument("--runs", type=int, default=100_000, help="inputs for each reader and turn")
    command.add_argument("--seconds", type=int, default=3600, help="for each reader and turn")
    command.add_argument("--turns", type=int, default=1, help="how often each reader has its turn")
    command.add_argument("--open", action="store_true", help="open checkpoints and read their tensors, no more")
    command = verbs.add_parser("try")
    command.add_argument("folder", type=Path)
    command.add_argument("reader", choices=READERS)
    command.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    if args.verb == "list":
        print(*READERS, sep="\n")
        return 0
    if args.verb == "table":
        return tabled(args.folders)
    if args.verb == "seeds":
        from tools.fuzz.seeds import write

        for name, count in write(args.folder).items():
            print(f"{name:20} {count}")
        return 0
    if args.verb == "try":
        return tried(args.folder, args.reader, args.files)
    return run(args)


def run(args: argparse.Namespace) -> int:
    """Fuzz one reader after another, each in a process that is started anew after a crash or a hang."""
    import atheris

    with (
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stderr(nowhere),
        atheris.instrument_imports(include=GUIDED),
    ):
        _import_all()
    return max([fuzzed(args, name) for _ in range(args.turns) for name in args.readers or READERS])


def fuzzed(args: argparse.Namespace, name: str) -> int:
    """Fuzz one reader until enough was run; 1 where something was found."""
    home, stats = args.folder / name, args.folder / name / "stats.json"
    for kept in ("findings", "corpus"):
        (home / kept).mkdir(parents=True, exist_ok=True)
    total: Counter[str] = Counter()
    start, ended = time.monotonic(), 0
    while ended <= CRASHES:
        runs, left = args.runs - total["inputs"], args.seconds - int(time.monotonic() - start)
        if runs <= 0 or left <= 0:
            break
        stats.unlink(missing_ok=True)
        path = _beside(home, READERS[name])
        process = os.fork()
        if not process:
            _child(home, READERS[name], path, runs, left, only_open=args.open)
        _, status = os.waitpid(process, 0)
        if status and path.is_file():
            shutil.copy(path, home / "findings" / f"ended-{os.waitstatus_to_exitcode(status)}-{ended}")
        shutil.rmtree(path.parent, ignore_errors=True)
        if stats.exists():
            slowest = total["slowest"]
            total += Counter(json.loads(stats.read_text()))
            total["slowest"] = max(slowest, total["slowest"] - slowest)
        if status == 0:
            break
        ended += 1
    seconds = time.monotonic() - start
    with (home / "counts.jsonl").open("a") as file:
        file.write(json.dumps({**total, "ended": ended, "commit": _commit()}) + "\n")
    found = sorted(path.name for path in (home / "findings").iterdir())
    print(
        f"{name:18} {total['inputs']:9,} inputs  {total['read']:8,} read  {total['refused']:8,} refused  "
        f"{seconds:6.0f} s  ended {ended} times  slowest {total['slowest'] / 1000:.1f} s  "
        f"findings: {', '.join(found) or 'none'}",
        flush=True,
    )
    return 1 if found else 0


def _child(home: Path, reader: Reader, path: Path, runs: int, seconds: int, *, only_open: bool) -> NoReturn:
    """Fuzz in this process, and end it."""
    import atheris

    log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    gc.freeze()  # all that was imported is never looked at again
    counts = Counter[str]()
    known = len(list((home / "corpus").glob("*")))
    known += bool(known) and len(list((home / "seeds").iterdir()))  # which were run in an earlier turn
    read = opened if only_open and reader.read is whole else reader.read

    def ended() -> NoReturn:
        (home / "stats.json").write_text(json.dumps(counts))
        os._exit(0)

    end = time.monotonic() + seconds

    def one(data: bytes) -> None:
        nonlocal known
        path.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, 2 * SECONDS)  # which ends the process: nothing in C can hold it up
        start = time.process_time()
        try:
            read(path)
            said = "read"
        except ConverterError:
            said = "refused"
        except Exception as error:
            _keep(home, data, error)
            said = "raised"
        spent = time.process_time() - start
        if spent > SLOW:
            (home / ("findings" if spent > SECONDS else "") / f"slow-{spent:.1f}").write_bytes(data)
        counts["slowest"] = max(counts["slowest"], int(spent * 1000))
        if known:
            known -= 1
            return
        counts[said] += 1
        counts["inputs"] += 1
        if counts["inputs"] % 256 == 0:
            (home / "stats.json").write_text(json.dumps(counts))
        if counts["inputs"] >= runs or time.monotonic() > end:
            ended()

    longest = max([LONGEST, *(seed.stat().st_size for seed in (home / "seeds").iterdir())])
    flags = ["-timeout=3600", f"-rss_limit_mb={MEGABYTES + 700}", f"-max_len={longest}", "-len_control=0"]
    flags += [f"-artifact_prefix={home / 'findings'}/", "-detect_leaks=0", "-entropic_scale_per_exec_time=1"]
    flags += ["-report_slow_units=3600"]  # it looks at the clock on the wall
    atheris.Setup([sys.argv[0], *flags, str(home / "corpus"), str(home / "seeds")], one)
    atheris.Fuzz()
    ended()


def tabled(folders: list[Path]) -> int:
    """Print what was run so far, reader by reader."""
    sums = {name: Counter[str]() for name in READERS}
    for name, total in sums.items():
        for line in (line for f in folders if (p := f / name / "counts.jsonl").exists() for line in p.open()):
            turn = json.loads(line)
            slowest = max(turn.get("slowest", 0), total["slowest"])
            total.update({key: turn.get(key, 0) for key in ("inputs", "read", "refused", "ended")})
            total["slowest"] = slowest
    print("| reader | inputs | read | refused | slowest |\n|---|---|---|---|---|")
    for name, total in sums.items():
        of = (f"{total[key]:,}" for key in ("inputs", "read", "refused"))
        print(f"| {name} | {' | '.join(of)} | {total['slowest'] / 1000:.1f} s |")
    print(f"| all | {sum(total['inputs'] for total in sums.values()):,} | | | |")
    return 0


def _commit() -> str:
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def _beside(home: Path, reader: Reader) -> Path:
    """Where the fuzzed file is written, with what belongs to it beside it; in memory where that can be."""
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=place))
    shutil.copytree(home / "with", folder, dirs_exist_ok=True)
    return folder / reader.file


def _import_all() -> None:
    import importlib
    import pkgutil

    import converter
    import densenet

    for package in (converter, densenet):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(part in found.name for part in (".cli", ".engines.", ".publish", "__main__", "densenet.model")):
                try:
                    importlib.import_module(found.name)
                except ImportError:
                    continue


def _keep(home: Path, data: bytes, error: Exception) -> None:
    """Keep the smallest input of a place in the code."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if "/converter/" in f.filename or "/densenet/" in f.filename
    ]
    last = frames[-1] if frames else None
    where = f"{Path(last.filename).stem}-{last.name}-{last.lineno}" if last else "nowhere"
    name = f"{type(error).__name__}-{where}"
    kept = home / "findings" / name
    if not kept.exists() or len(data) < kept.stat().st_size:
        kept.write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (home / f"{name}.txt").write_text(text, errors="backslashreplace")


def tried(folder: Path, name: str, files: list[Path]) -> int:
    """Say what a reader makes of files."""
    reader, worst = READERS[name], 0
    path = _beside(folder / name, reader)
    for file in files:
        path.write_bytes(file.read_bytes())
        start = time.perf_counter()
        try:
            reader.read(path)
            said = "read"
        except ConverterError as error:
            said = f"refused: {error}"
        except Exception:
            said, worst = traceback.format_exc(), 1
        print(f"{file.name}: {time.perf_counter() - start:.2f} s: {said}")
    shutil.rmtree(path.parent)
    return worst


if __name__ == "__main__":
    sys.exit(main())
