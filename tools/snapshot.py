"""What the commands make of every case, as SHA-256: write it down before a change that must not show, compare after.

    python tools/snapshot.py write before.json tests/data OTHER_CORPUS ...
    python tools/snapshot.py compare before.json after.json

Each folder with a ``case.json`` is a case.  Its file goes through ``convert``, ``export`` and ``package`` as a user
would call them; what is written down is the hash of every file they write, or the exit status and the error.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import sys
import tempfile
import traceback
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

COMMANDS: dict[str, list[str]] = {
    "inspect": ["inspect", "SRC", "--json"],
    "convert": ["convert", "SRC", "out.safetensors"],
    "convert torchvision": ["convert", "SRC", "out.pth", "--to", "torchvision"],
    "convert timm": ["convert", "SRC", "out.safetensors", "--to", "timm"],
    "convert mmpretrain": ["convert", "SRC", "out.pth", "--to", "mmpretrain"],
    "convert npz": ["convert", "SRC", "out.npz", "--dtype", "fp16"],
    "convert keras": ["convert", "SRC", "out.h5"],
    "export": ["export", "SRC", "out.onnx"],
    "export exact": ["export", "SRC", "out.onnx", "--graph", "exact", "--features", "--probabilities"],
    "export opset 11": ["export", "SRC", "out.onnx", "--opset", "11"],
    "export fp16": ["export", "SRC", "out.onnx", "--precision", "fp16"],
    "export int8": ["export", "SRC", "out.onnx", "--precision", "int8"],
    "export image-input": ["export", "SRC", "out.onnx", "--image-input"],
    "package": ["package", "SRC", "package"],
}


def one(case: Path, commands: str = "") -> dict[str, object]:
    """Everything the commands make of one case; of those with ``commands`` in their names."""
    main = next(iter(entry_points(group="console_scripts", name="densenet"))).load()
    source = case / json.loads((case / "case.json").read_text("utf-8"))["file"]
    result: dict[str, object] = {}
    for name, words in COMMANDS.items():
        if commands not in name and name != "inspect":
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            out, err = io.StringIO(), io.StringIO()
            sys.argv = ["densenet", *(str(source) if word == "SRC" else word for word in words)]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as stop:
                    status = stop.code
                except BaseException:  # every case is reported
                    traceback.print_exc()
                    status = -1
            files = sorted(path for path in Path().rglob("*") if path.is_file())
            result[name] = {
                "status": status,
                "said": err.getvalue().replace(folder, "").splitlines()[-40:],
                "printed": hashlib.sha256(out.getvalue().encode()).hexdigest(),
                "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
            }
            if name == "inspect" and status:
                break  # what cannot be read cannot be converted either
    return result


def write(target: Path, folders: list[Path], jobs: int, commands: str) -> int:
    """Write a snapshot of every case below some folders."""
    cases = sorted(path.parent.resolve() for folder in folders for path in folder.rglob("case.json"))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        result = {}
        for case, found in zip(cases, pool.imap(partial(one, commands=commands), cases)):
            result[f"{case.parent.name}/{case.name}"] = found
            print(f"{len(result)} of {len(cases)}  {case.name}", file=sys.stderr, flush=True)
    target.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    return 0


def compare(before: Path, after: Path) -> int:
    """Print every difference between two snapshots."""
    old, new = (json.loads(path.read_text("utf-8")) for path in (before, after))
    differences = 0
    for case in sorted({*old, *new}):
        for command in COMMANDS:
            a, b = (snapshot.get(case, {}).get(command) for snapshot in (old, new))
            if a == b:
                continue
            differences += 1
            keys = [key for key in ("status", "said", "printed", "files") if (a or {}).get(key) != (b or {}).get(key)]
            print(f"{case}: {command}: {', '.join(keys)}")
            for key in keys:
                have, want = (a or {}).get(key), (b or {}).get(key)
                if key == "files":
                    have, want = ({k: v[:12] for k, v in (f or {}).items()} for f in (have, want))
                    changed = [k for k in {**have, **want} if have.get(k) != want.get(k)]
                    have, want = ({k: f.get(k) for k in changed} for f in (have, want))
                print(f"    before {have}\n    after  {want}")
    print(f"{len(old)} and {len(new)} cases, {differences} commands differ")
    return 1 if differences else 0


def main() -> int:
    """Write a snapshot, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("target", type=Path)
    writing.add_argument("folders", type=Path, nargs="+")
    writing.add_argument("--jobs", type=int, default=1)
    writing.add_argument("--commands", default="", help="only commands with this in their names, and inspect")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.verb == "write":
        return write(args.target, args.folders, args.jobs, args.commands)
    return compare(args.before, args.after)


if __name__ == "__main__":
    sys.exit(main())
