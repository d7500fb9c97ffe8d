"""Peak memory of the verbs that write and judge, on networks of several sizes, as a table.

    python tools/memory.py [--sizes 11,96,451] [--only export]

Each command is a process of its own with whatever it starts; their RssAnon (what only memory or swap can hold) and
RssFile (pages of files that are mapped, which the kernel takes back whenever it needs them) are read from /proc every
few milliseconds, each of the two summed over the processes, and the largest of each is shown, in MB.  Weights are
random, images are synthetic.  Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.model import Model, Origin
from converter.layouts import layout_named
from converter.writing.convert import write
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig

NETWORKS = {
    11: DenseNetConfig(growth_rate=24, block_config=(4, 8, 16, 12), init_features=48),
    96: DenseNetConfig(growth_rate=48, block_config=(6, 12, 32, 20), init_features=96, num_classes=1100),
    451: DenseNetConfig(growth_rate=96, block_config=(6, 12, 36, 25), init_features=192, num_classes=1190),
}
"""Networks by the size of their float32 weights in MB."""

DENSENET = (sys.executable, "-c", "from converter.cli import main; main()")
COMMANDS = {
    "convert to .safetensors": "convert {source} {folder}/a.safetensors",
    "convert to .pth": "convert {source} {folder}/a.pth",
    "convert to .npz": "convert {source} {folder}/a.npz",
    "convert to .h5": "convert {source} {folder}/a.h5",
    "export": "export {source} {folder}/a.onnx",
    "export --precision fp16": "export {source} {folder}/h.onnx --precision fp16",
    "export --image-input": "export {source} {folder}/i.onnx --image-input",
    "export --precision int8": "export {source} {folder}/q.onnx --precision int8",
    "verify": "verify {source} {folder}/v.onnx",
    "package": "package {source} {folder}/package",
}
BEFORE = {"verify": "export {source} {folder}/v.onnx"}
"""What a command needs to be there."""
INTERVAL = 0.003


def make(config: DenseNetConfig, path: Path) -> None:
    """Write a network of random weights, which neither explode nor vanish, one tensor at a time."""

    def tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
        def read() -> Array:
            random = np.random.default_rng(seed)
            if name.endswith("running_var"):
                return random.uniform(0.5, 1.5, shape).astype(np.float32)
            width = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
            values = random.standard_normal(shape, np.float32) * np.float32(width)
            return values + np.float32(len(shape) == 1 and name.endswith("weight"))

        return Tensor(shape, np.dtype(np.float32), read)

    tensors = {name: tensor(name, shape, i) for i, (name, shape) in enumerate(config.tensors().items())}
    model = Model(config, tensors, Origin("random", "0" * 64, "memory", "library"))
    write(path, in_layout(model, layout_named("library")))


def tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text().split():
                yield from tree(int(child))


def resident(pid: int) -> tuple[int, int]:
    """Anonymous and mapped pages of a process in kB."""
    anonymous = mapped = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                anonymous = int(line.split()[1])
            elif line.startswith("RssFile:"):
                mapped = int(line.split()[1])
    return anonymous, mapped


def peaks(command: list[str]) -> tuple[float, float, float]:
    """The largest anonymous and mapped memory in MB of a command with all it starts, and its seconds.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    anonymous = mapped = 0
    while process.poll() is None:
        with suppress(OSError):
            found = [resident(pid) for pid in tree(process.pid)]
            anonymous = max(anonymous, sum(a for a, _ in found))
            mapped = max(mapped, sum(m for _, m in found))
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{process.stderr.read() if process.stderr else ''}")
    return anonymous * 1024 / 1e6, mapped * 1024 / 1e6, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, NETWORKS)), help="which networks")
    parser.add_argument("--only", default="", help="only the commands that begin so")
    parser.add_argument("--folder", type=Path, help="where to work; it is kept")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    print("| command | model | anonymous | mapped | seconds |\n|---|---|---|---|---|")
    for name, words in COMMANDS.items():
        for size in sizes if name.startswith(args.only) else ():
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                source = (args.folder or Path(folder)) / f"{size}.safetensors"
                if not source.exists():
                    make(NETWORKS[size], source)
                for template in (BEFORE.get(name, ""), words):
                    if template:
                        command = template.format(source=source, folder=folder).split()
                        anonymous, mapped, seconds = peaks([*DENSENET, *command])
                print(f"| {name} | {size} MB | {anonymous:.0f} MB | {mapped:.0f} MB | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
