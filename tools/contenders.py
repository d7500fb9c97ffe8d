"""What tools/benchmark.py measures: every way from the same weights to the same kind of file, a whole process each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

CHECKPOINTS = """
import numpy, sys, torch, torchvision
from collections import OrderedDict
torch.manual_seed(0)
model = getattr(torchvision.models, sys.argv[1])(weights=None)
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(0, 0.2)
        module.running_var.uniform_(0.5, 1.5)
torch.save(model.state_dict(), sys.argv[2])
state = OrderedDict()
for key, value in model.state_dict().items():
    if not key.endswith("num_batches_tracked"):
        for name in ("norm1", "norm2", "conv1", "conv2"):
            key = key.replace(f".{name}.", f".{name[:-1]}.{name[-1]}.") if "denselayer" in key else key
        state[key] = value
torch.save(state, sys.argv[3], _use_new_zipfile_serialization=False)
numpy.save(sys.argv[4], numpy.random.default_rng(0).standard_normal((16, 3, 224, 224), numpy.float32))
"""
"""Images, and a network's random weights, as torchvision and timm save them today, and as the published files have them."""

SCRIPT = """
import re, sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
pattern = re.compile(r"^(.*denselayer\\d+\\.(?:norm|relu|conv))\\.((?:[12])\\.(?:weight|bias|running_mean|running_var))$")
renamed = {}
for key, value in state.items():
    found = pattern.match(key)
    renamed[found[1] + found[2] if found else key] = value.contiguous()
save_file(renamed, sys.argv[2])
"""

IMAGES = """
import io, sys, tarfile, numpy, torch, pyarrow
from pathlib import Path
from PIL import Image
from pyarrow import parquet
from torchvision import transforms
folder, count = Path(sys.argv[1]), int(sys.argv[2])
random, rows, prepared = numpy.random.default_rng(0), [], []
prepare = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
with tarfile.open(folder / "shard.tar", "w") as tar:
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (15, 20, 3), numpy.uint8)).resize((500, 375), Image.BICUBIC)
        image = Image.fromarray((numpy.asarray(coarse, numpy.int16) + random.integers(-9, 9, (375, 500, 1))).clip(0, 255).astype(numpy.uint8))
        image.save(file := io.BytesIO(), "JPEG", quality=90)
        place = folder / "images" / str(i % 10) / f"{i:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.getvalue())
        member = tarfile.TarInfo(f"{i:05}.jpg")
        member.size = len(file.getvalue())
        tar.addfile(member, io.BytesIO(file.getvalue()))
        rows.append({"bytes": file.getvalue(), "path": f"{i:05}.jpg"})
        prepared.append(prepare(Image.open(place)).numpy())
parquet.write_table(pyarrow.table({"image": rows}), folder / "shard.parquet", row_group_size=64)
numpy.save(folder / "prepared.npy", numpy.stack(prepared))
"""
"""So many photographs' sizes of noise as JPEG: a folder, a tar, Parquet, and prepared as the network takes them."""

LOADER = """
import sys, numpy, torch, torchvision
from torchvision import datasets, transforms
model = getattr(torchvision.models, sys.argv[1])(weights=None).eval()
model.load_state_dict(torch.load(sys.argv[2], map_location="cpu", weights_only=True))
prepare = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
loader = torch.utils.data.DataLoader(datasets.ImageFolder(sys.argv[3], prepare), batch_size=int(sys.argv[5]), num_workers=2)
with torch.inference_mode():
    numpy.save(sys.argv[4], numpy.concatenate([model(images).numpy() for images, _ in loader]))
"""

ENGINE = """
import sys, numpy, onnxruntime
from concurrent.futures import ThreadPoolExecutor
options, size, threads = onnxruntime.SessionOptions(), int(sys.argv[4]), int(sys.argv[5])
options.intra_op_num_threads = 1 if threads > 1 else 0
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
images = numpy.load(sys.argv[2], mmap_mode="r")
batches = [images[i : i + size] for i in range(0, len(images), size)]
with ThreadPoolExecutor(threads) as pool:
    run = lambda batch: session.run(None, {"pixel_values": numpy.ascontiguousarray(batch)})[0]
    numpy.save(sys.argv[3], numpy.concatenate(list(pool.map(run, batches))))
"""

EXPORT = """
import sys, torch, torchvision
model = getattr(torchvision.models, sys.argv[1])(weights=None).eval()
model.load_state_dict(torch.load(sys.argv[2], map_location="cpu", weights_only=True))
image = torch.randn(2, 3, 224, 224)
if sys.argv[4] == "dynamo":
    torch.onnx.export(model, (image,), sys.argv[3], dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
else:
    torch.onnx.export(model, (image,), sys.argv[3], dynamo=False, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
"""

TIMM = """
import sys, timm
from timm.utils.onnx import onnx_export
model = timm.create_model(sys.argv[1], num_classes=1000, in_chans=3, pretrained=False,
    checkpoint_path=sys.argv[2], exportable=True)
onnx_export(model, sys.argv[3], input_size=(3, 224, 224), batch_size=1)
"""
"""What onnx_export.py of timm's repository calls."""

INT8_ORT = """
import sys, numpy
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
class Reader(CalibrationDataReader):
    images = iter(numpy.load(sys.argv[3]))
    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"pixel_values": image[None]}
quantize_static(sys.argv[1], sys.argv[2], Reader(), op_types_to_quantize=["Conv"], per_channel=True,
    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""

INT8_NNCF = """
import sys, numpy, nncf, onnx
images = [{"pixel_values": image[None]} for image in numpy.load(sys.argv[3])]
onnx.save(nncf.quantize(onnx.load(sys.argv[1]), nncf.Dataset(images), subset_size=len(images)), sys.argv[2])
"""

INT8_OPENVINO = """
import sys, numpy, nncf, openvino
images = [image[None] for image in numpy.load(sys.argv[3])]
model = openvino.Core().read_model(sys.argv[1])
openvino.save_model(nncf.quantize(model, nncf.Dataset(images), subset_size=len(images)), sys.argv[2])
"""


@dataclass(frozen=True)
class Files:
    """What every contender starts from, in the folder where all write.

    Attributes:
        folder: of everything.
        network: torchvision's and timm's name.
    """

    folder: Path
    network: str

    @property
    def legacy(self) -> Path:
        """The published files' form."""
        return self.folder / f"{self.network}.pth"

    @property
    def plain(self) -> Path:
        """Today's form."""
        return self.folder / f"{self.network}-plain.pth"

    @property
    def float32(self) -> Path:
        """Our ONNX file, which is what others quantise."""
        return self.folder / "export-ours.onnx"

    @property
    def shard(self) -> Path:
        """Images in a tar; beside it ``shard.parquet``, a folder ``images``, and ``prepared.npy``."""
        return self.folder / "shard.tar"

    @property
    def images(self) -> Path:
        """What 8 bits are calibrated with: (16, 3, 224, 224) float32."""
        return self.folder / "images.npy"


@dataclass(frozen=True)
class Contender:
    """One way.

    Attributes:
        question: ``convert``, ``export``, ``int8`` or ``predict``; the first of each is ours.
        key: in names of files.
        title: in the tables.
        needs: packages it runs.
        words: the command, from the files and what it writes.
        suffix: of what it writes.
        part: it does one of so many pieces of the work, and its figures are taken so many times.
    """

    question: str
    key: str
    title: str
    needs: tuple[str, ...]
    words: Callable[[Files, Path], list[str]]
    suffix: str = ".onnx"
    part: int = 1

    @property
    def lacks(self) -> str:
        """Which of its packages are not installed."""
        return ", ".join(name for name in self.needs if find_spec(name) is None)

    def target(self, files: Files) -> Path:
        """What it writes."""
        return files.folder / f"{self.question}-{self.key}{self.suffix}"


def tool(name: str) -> str:
    """A command of this environment."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


PREDICTED, EACH = 128, 8
"""Images that are predicted, and of how many one is by the command that takes one image."""


def one_by_one(f: Files, to: Path) -> list[str]:
    """A loop of commands over every ``EACH``-th image."""
    loop = 'model=$1 to=$2; shift 2; for image; do "$0" predict "$model" "$image" -o "$to" --force -q || exit; done'
    images = [f.folder / "images" / str(i % 10) / f"{i:05}.jpg" for i in range(0, PREDICTED, EACH)]
    return ["bash", "-c", loop, tool("densenet"), str(f.float32), str(to), *map(str, images)]


def python(script: str, *words: object) -> list[str]:
    """A script in a process of its own."""
    return [sys.executable, "-c", script, *map(str, words)]


CONTENDERS = (
    Contender(
        "convert",
        "ours",
        "`densenet convert`: recognised, every tensor accounted for, hashed",
        (),
        lambda f, to: [tool("densenet"), "convert", str(f.legacy), str(to), "--force"],
        ".safetensors",
    ),
    Contender(
        "convert",
        "script",
        "a script: `torch.load`, rename, `save_file`",
        ("torch", "safetensors"),
        lambda f, to: python(SCRIPT, f.legacy, to),
        ".safetensors",
    ),
    Contender(
        "export",
        "ours",
        "`densenet export`",
        (),
        lambda f, to: [tool("densenet"), "export", str(f.legacy), str(to), "--force"],
    ),
    Contender(
        "export",
        "dynamo",
        "`torch.onnx.export(dynamo=True)`",
        ("torch", "torchvision", "onnxscript"),
        lambda f, to: python(EXPORT, f.network, f.plain, to, "dynamo"),
    ),
    Contender(
        "export",
        "legacy",
        "`torch.onnx.export(dynamo=False)`",
        ("torch", "torchvision"),
        lambda f, to: python(EXPORT, f.network, f.plain, to, "legacy"),
    ),
    Contender(
        "export",
        "timm",
        "timm's `onnx_export.py`",
        ("timm",),
        lambda f, to: python(TIMM, f.network, f.plain, to),
    ),
    Contender(
        "export",
        "timmx",
        "`timmx export onnx`, which slims and compares",
        ("timmx", "timm", "onnxslim", "onnxscript"),
        lambda f, to: [
            *(sys.executable, "-m", "timmx", "export", "onnx", f.network),
            *("--checkpoint", str(f.plain), "--output", str(to), "--dynamic-batch", "--batch-size", "2"),
        ],
    ),
    Contender(
        "export",
        "onnxslim",
        "onnxslim alone, of the file of `dynamo=True`",
        ("onnxslim",),
        lambda f, to: [sys.executable, "-m", "onnxslim", str(f.folder / "export-dynamo.onnx"), str(to)],
    ),
    Contender(
        "int8",
        "ours",
        "`densenet export --precision int8`",
        (),
        lambda f, to: [
            *(tool("densenet"), "export", str(f.legacy), str(to), "--force"),
            *("--precision", "int8", "--calibration", str(f.images)),
        ],
    ),
    Contender(
        "int8",
        "onnxruntime",
        "ONNX Runtime's `quantize_static`, convolutions",
        ("onnxruntime",),
        lambda f, to: python(INT8_ORT, f.float32, to, f.images),
    ),
    Contender(
        "int8",
        "nncf",
        "NNCF, of the ONNX file",
        ("nncf",),
        lambda f, to: python(INT8_NNCF, f.float32, to, f.images),
    ),
    Contender(
        "int8",
        "openvino",
        "OpenVINO: NNCF, of its own model",
        ("nncf", "openvino"),
        lambda f, to: python(INT8_OPENVINO, f.float32, to, f.images),
        ".xml",
    ),
    Contender(
        "predict",
        "ours",
        "`densenet predict`, a tar",
        (),
        lambda f, to: [tool("densenet"), "predict", str(f.float32), str(f.shard), "-o", str(to), "--force"],
        ".csv",
    ),
    Contender(
        "predict",
        "parquet",
        "`densenet predict`, Parquet",
        ("pyarrow",),
        lambda f, to: [
            *(tool("densenet"), "predict", str(f.float32), str(f.shard.with_suffix(".parquet"))),
            *("-o", str(to), "--force"),
        ],
        ".csv",
    ),
    Contender(
        "predict",
        "engine",
        "ONNX Runtime alone, on prepared numbers, eight at once",
        ("onnxruntime",),
        lambda f, to: python(ENGINE, f.float32, f.folder / "prepared.npy", to, 8, 1),
        ".npy",
    ),
    Contender(
        "predict",
        "engines",
        "ONNX Runtime alone, on prepared numbers, a batch a core",
        ("onnxruntime",),
        lambda f, to: python(ENGINE, f.float32, f.folder / "prepared.npy", to, 8, os.cpu_count() or 1),
        ".npy",
    ),
    Contender(
        "predict",
        "loader",
        "PyTorch's `DataLoader` of a folder, eager, 32 at once",
        ("torch", "torchvision"),
        lambda f, to: python(LOADER, f.network, f.plain, f.folder / "images", to, 32),
        ".npy",
    ),
    Contender(
        "predict",
        "single",
        f"`densenet predict`, a command an image (of one in {EACH}, times {EACH})",
        (),
        one_by_one,
        ".csv",
        EACH,
    ),
)
