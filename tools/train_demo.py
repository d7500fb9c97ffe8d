"""Train the small DenseNet of the offline demo, and write everything the demo ships.

Run by hand, with the package and its ``test`` extra installed:

    python tools/train_demo.py --validate    5-fold cross-validation on the training images; writes nothing
    python tools/train_demo.py               train on all of them, score the held-out ones once, write

It writes into ``converter/data``:

    digits-densenet.pth            names and container of torchvision's published files (``norm.1``, no zip)
    images/<digit>/<index>.png     the first ten held-out images of each class, in the order of the data set
    record.json                    what was trained on what, how, and how well it does

The data are scikit-learn's 1797 digits.  A fifth of them, stratified and drawn with a fixed seed, is held
out: no training, no choice of architecture or schedule, and no statistic ever saw those; choices are made
with ``--validate``.  The weights are the same on every run with the same torch on the same kind of machine
(compare ``weights_sha256``).  torch's legacy container also holds memory addresses, so the file is only
replaced when the weights differ.
"""

import argparse
import hashlib
import io
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import Tensor
from torch.nn import functional as F

from densenet.config import DenseNetConfig
from densenet.model import DenseNet

OUT = Path(__file__).resolve().parent.parent / "converter" / "data"
CONFIG = DenseNetConfig(growth_rate=12, block_config=(3, 3, 3), init_features=24, num_classes=10)
SEED, EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 0, 60, 64, 0.01, 0.05, 0.05
SIZE, MEAN, STD = 32, 0.306, 0.324  # mean and deviation of the training images at that size, rounded
SHIPPED = 10  # images per class
AUGMENTATION = "rotation 0.22 rad, scale 15 %, slant 15 %, shift 8 %, brightness 15 %, each up or down"
ATTRIBUTION = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, "
    "https://doi.org/10.24432/C50P49, CC BY 4.0; the 1797 images of its test set as distributed by scikit-learn "
    "(sklearn.datasets.load_digits), grey values 0..16 scaled to 0..255."
)


def png(image: np.ndarray) -> bytes:
    """An image of grey values 0..255 as an optimised PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pixels(file: bytes) -> Tensor:
    """What a user's preprocessing makes of an image file, before normalisation: (3, 32, 32) in 0..1."""
    with Image.open(io.BytesIO(file)) as image:
        resized = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def normalise(x: Tensor) -> Tensor:
    """As the ``mean`` and ``std`` of the record say."""
    return (x - MEAN) / STD


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned, scaled, slanted and shifted a little, its strokes a little lighter or darker."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(len(x), generator=generator) * 2 - 1) * limit

    angle, scale, slant = uniform(0.22), 1 + uniform(0.15), uniform(0.15)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack([cos, slant * cos - sin, uniform(0.16), sin, slant * sin + cos, uniform(0.16)], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", align_corners=False)
    return (moved * (1 + uniform(0.15)).view(-1, 1, 1, 1)).clamp(0, 1)


def train(x: Tensor, y: Tensor) -> DenseNet:
    """A trained network, in evaluation mode; the same arguments give the same weights."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = DenseNet(CONFIG)
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0}])
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            loss = F.cross_entropy(model(normalise(augment(x[batch], generator))), y[batch], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.inference_mode()
def score(model: torch.nn.Module, files: list[bytes], y: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Logits of image files, and how many of them are right."""
    logits = model(normalise(torch.stack([pixels(file) for file in files])))
    correct = int((logits.argmax(1) == y).sum())
    return logits, {"n": len(y), "correct": correct, "accuracy": round(correct / len(y), 4)}


def legacy_name(name: str) -> str:
    """The name of a tensor in torchvision's published files (written out here, not taken from what reads it)."""
    name = re.sub(r"^stem\.(conv|norm)", r"features.\g<1>0", name)
    name = re.sub(r"^norm\.", "features.norm5.", name)
    name = re.sub(r"^transitions\.(\d+)", lambda m: f"features.transition{int(m[1]) + 1}", name)
    layer = r"^blocks\.(\d+)\.layers\.(\d+)\.(norm|conv)(\d)"
    return re.sub(layer, lambda m: f"features.denseblock{int(m[1]) + 1}.denselayer{int(m[2]) + 1}.{m[3]}.{m[4]}", name)


def into_torchvision(weights: Mapping[str, Tensor]) -> torchvision.models.DenseNet:
    """torchvision's own network with those weights; it has no say in how they were made."""
    model = torchvision.models.DenseNet(CONFIG.growth_rate, CONFIG.block_config, CONFIG.init_features, num_classes=10)
    model.load_state_dict({re.sub(r"(norm|conv)\.(\d)", r"\1\2", k): v for k, v in weights.items()}, strict=True)
    return model.eval()


def read(file: bytes) -> Mapping[str, Tensor]:
    """The tensors in a ``.pth``."""
    return torch.load(io.BytesIO(file), weights_only=True)


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A sha256 of names and values, whatever the container."""
    return hashlib.sha256(b"".join(k.encode() + v.numpy().tobytes() for k, v in weights.items())).hexdigest()


def validate(files: list[bytes], y: Tensor) -> None:
    """Cross-validated accuracy within the training images: what choices may be based on."""
    x, right = torch.stack([pixels(file) for file in files]), 0
    for rest, fold in StratifiedKFold(5, shuffle=True, random_state=SEED).split(x, y):
        _, result = score(train(x[rest], y[rest]), [files[i] for i in fold], y[fold])
        right += result["correct"]
    print(f"cross-validated accuracy {right / len(y):.4f} ({right} of {len(y)}), {CONFIG.parameters()} parameters")


def main() -> None:
    """Train, check, write."""
    parser = argparse.ArgumentParser(description="Train the demo's DenseNet on scikit-learn's digits.")
    parser.add_argument("--validate", action="store_true", help="cross-validate instead; writes nothing")
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    digits = load_digits()
    images, labels = np.round(digits.images * 255 / 16).astype(np.uint8), torch.from_numpy(digits.target)
    files = [png(image) for image in images]
    rows, held_out = train_test_split(range(len(files)), test_size=0.2, stratify=digits.target, random_state=SEED)
    rows, held_out = sorted(rows), sorted(held_out)
    if arguments.validate:
        return validate([files[i] for i in rows], labels[rows])

    x = torch.stack([pixels(files[i]) for i in rows])
    print(f"{len(rows)} training images: mean {x.mean():.4f}, deviation {x.std():.4f}")
    model = train(x, labels[rows])
    state = model.state_dict()
    weights = OrderedDict((legacy_name(name), state[name].detach().clone()) for name in CONFIG.tensors())
    shipped = [i for digit in range(10) for i in [j for j in held_out if labels[j] == digit][:SHIPPED]]
    buffer = io.BytesIO()
    torch.save(weights, buffer, _use_new_zipfile_serialization=False)
    stored = read(buffer.getvalue())
    logits, on_held_out = score(model, [files[i] for i in held_out], labels[held_out])
    theirs, in_torchvision = score(into_torchvision(stored), [files[i] for i in held_out], labels[held_out])
    if in_torchvision != on_held_out or not torch.allclose(logits, theirs, rtol=1e-4, atol=1e-4):
        raise SystemExit(f"torchvision computes something else: {in_torchvision}, not {on_held_out}")
    _, on_shipped = score(model, [files[i] for i in shipped], labels[shipped])

    path = OUT / "digits-densenet.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or fingerprint(read(path.read_bytes())) != fingerprint(stored):
        path.write_bytes(buffer.getvalue())
    for old in OUT.glob("images/*/*.png"):
        old.unlink()
    for i in shipped:
        file = OUT / "images" / str(labels[i].item()) / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files[i])
    record = {
        "model": CONFIG.name,
        "config": CONFIG.to_dict(),
        "parameters": CONFIG.parameters(),
        "class_names": [str(name) for name in digits.target_names],
        "preprocessing": {
            **{"resize": SIZE, "crop": [SIZE, SIZE], "interpolation": "bilinear"},
            **{"mean": [MEAN] * 3, "std": [STD] * 3, "channels": 3},
        },
        "accuracy": {"held_out": on_held_out, "shipped_images": on_shipped},
        "data": {
            "name": "digits (sklearn.datasets.load_digits)",
            "attribution": ATTRIBUTION,
            **{"images": len(files), "training": len(rows), "held_out": len(held_out)},
            "split": f"train_test_split(test_size=0.2, stratify=target, random_state={SEED})",
            "use_of_held_out": "scored once, after training; never trained on, never used to choose anything",
            "caveat": "a random split of images, not of writers: digits of the same hands are on both sides",
            "shipped_images": f"first {SHIPPED} held-out images of each class, by index",
        },
        "training": {
            **{"seed": SEED, "epochs": EPOCHS, "batch": BATCH, "optimizer": "AdamW", "schedule": "one cycle"},
            **{"learning_rate": RATE, "weight_decay": DECAY, "label_smoothing": SMOOTHING},
            "augmentation": AUGMENTATION,
        },
        "torch": torch.__version__,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_sha256": fingerprint(stored),
    }
    (OUT / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    top = logits.softmax(1).amax(1)
    print(f"held out {on_held_out}, shipped {on_shipped}, {path.stat().st_size} bytes")
    print(f"logits: deviation {logits.std():.2f}, largest {logits.abs().max():.2f}; top probability {top.median():.3f}")


if __name__ == "__main__":
    main()
