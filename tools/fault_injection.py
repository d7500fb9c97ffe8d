"""Who judges the judge?  Break networks in every way of ``faults.py`` and see what ``densenet verify`` says.

    python tools/fault_injection.py [--quick] [--model NAME]... [--seeds N] [--json FILE]

A fault counts when it moves a logit, on inputs that verification does not use, by more
than ten times PyTorch's own float32 error on the same inputs.  Reported are

* the kill rate: how many of those faults fail verification, and of the fainter ones;
* how often the module it names is the broken one;
* false alarms: how many honest pairs (seeds x models x graphs x opsets x engines) fail;
* what the usual checks say to the same faults: cosine similarity of at least 0.9, and
  ``allclose`` at 1e-3, each on one random image.

Needs the torch extra.  The networks are small and have random weights, with statistics
from one pass over synthetic images; ``--model densenet121`` takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from faults import FAULTS, Fault, NotApplicable, modules_for

from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.core.model import Images, Model, Origin
from converter.engines.onnxruntime import onnx_engine
from converter.engines.torch import torch_engine, torch_module
from converter.exporters.onnx import to_onnx
from converter.formats.safetensors import write_safetensors
from converter.parity.compare import relative_error
from converter.parity.verify import Verification, verify
from converter.use.inputs import Batch, awkward_size, pixels, synthetic
from converter.writing.convert import convert
from densenet.config import DenseNetConfig
from densenet.preprocess import Preprocess

CHUNK = 24
"""Broken networks in one verification: the oracle runs once for all of them."""
COUNTS = 10.0
"""A fault counts when its effect is more than so many times PyTorch's own error."""


@dataclass(frozen=True)
class Subject:
    """A network to break: its size in pixels decides how long that takes."""

    config: DenseNetConfig
    size: int


SUBJECTS = {
    "tiny": Subject(
        DenseNetConfig(growth_rate=4, block_config=(2, 1, 2, 1), init_features=6, bn_size=2, num_classes=5), 64
    ),
    "small": Subject(
        DenseNetConfig(growth_rate=8, block_config=(3, 4, 6, 3), init_features=16, bn_size=4, num_classes=50), 64
    ),
    "cifar": Subject(DenseNetConfig.cifar(40, 12), 32),
    "cifar-bc": Subject(DenseNetConfig.cifar(40, 12, bottleneck=True), 32),
    "densenet121": Subject(DenseNetConfig.named("densenet121"), 224),
}
USUAL = ("tiny", "small", "cifar", "cifar-bc")


def network(subject: Subject, seed: int) -> Model:
    """Random weights, statistics as they come from images, preprocessing and class names."""
    import torch

    from densenet.model import DenseNet

    config, size = subject.config, subject.size
    torch.manual_seed(seed)
    module = DenseNet(config)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.2)
                part.momentum = None
        module.classifier.bias.normal_(0, 0.1)
        space = (size,) * config.spatial_dims
        images = synthetic("natural", (8, config.in_channels, *space), 1000 + seed)
        module.train()(torch.from_numpy(images.array))
    tensors = {name: Tensor.of(value.numpy()) for name, value in module.state_dict().items()}
    tensors = {name: tensor for name, tensor in tensors.items() if "num_batches" not in name}
    channels = config.in_channels
    if config.spatial_dims == 3:
        steps = Preprocess(None, space, mean=(0.0,) * channels, std=(1.0,) * channels, channels=channels)
    else:
        steps = Preprocess(resize=size + 8, crop=space)
    said = Images(steps, tuple(f"class {i}" for i in range(config.num_classes)))
    return Model(config, tensors, Origin("random", "0" * 64, "torch", "library"), images=said)


# -- breaking ----------------------------------------------------------------------------------


@dataclass
class Mutant:
    """A broken network in a file; the figures are filled in as they are found."""

    fault: str
    module: str
    form: str
    path: Path
    effect: float = 0.0
    own: float = 0.0
    killed: bool = False
    by_numbers: bool = False
    named: str = ""
    reason: str = ""
    cosine: bool = False
    allclose: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is more than rounding."""
        return not self.effect <= COUNTS * self.own

    @property
    def single(self) -> bool:
        """Whether one module is to blame."""
        return self.module != "*"

    @property
    def rightly_named(self) -> bool:
        """Whether the verdict names it; a folded pair of modules is one."""
        owner, _, leaves = self.named.rpartition(".")
        wanted, _, leaf = self.module.removesuffix(".concat").rpartition(".")
        return owner == wanted and leaf in leaves.split("+")


def broken(model: Model, fault: Fault, module: str, form: str, folder: Path, number: int) -> Mutant:
    """Write one broken network.

    Raises:
        NotApplicable: the fault changes nothing here.
    """
    stem = folder / f"{number:04d}"
    random = np.random.default_rng(number)
    options = {"image_input": True} if fault.only == "image" else {"graph": "exact" if form == "exact" else "fused"}
    if fault.tensors:
        tensors = {name: tensor.read().copy() for name, tensor in model.tensors.items()}
        with np.errstate(all="ignore"):
            fault.tensors(tensors, module, model.config, random)
        model = replace(model, tensors={name: Tensor.of(array) for name, array in tensors.items()})
        if form == "checkpoint":
            path = stem.with_suffix(".safetensors")
            write_safetensors(path, model.tensors, {**model.metadata(), "densenet.layout": "library"})
            return Mutant(fault.name, module, form, path)
    proto = to_onnx(model, **options)
    if fault.graph:
        try:
            fault.graph(proto, module, model.config)
        except StopIteration as error:
            raise NotApplicable from error
    path = stem.with_suffix(".onnx")
    path.write_bytes(proto.SerializeToString())
    return Mutant(fault.name, module, fault.only or form, path)


def mutants(model: Model, folder: Path, depths: int) -> Iterator[Mutant]:
    """Every fault at several depths, in turn as an exact graph, a fused one, and a checkpoint."""
    number = 0
    for i, fault in enumerate(FAULTS):
        forms = (
            (fault.only,) if fault.only else ("exact", "fused", "checkpoint") if fault.tensors else ("exact", "fused")
        )
        for depth, module in enumerate(modules_for(fault, model.config, depths)):
            number += 1
            try:
                yield broken(model, fault, module, forms[(i + depth) % len(forms)], folder, number)
            except NotApplicable:
                continue


# -- judging -----------------------------------------------------------------------------------


class Probe:
    """What a fault does to the logits, on inputs that verification does not see."""

    def __init__(self, model: Model, size: int, seed: int) -> None:
        config = model.config
        channels, odd = config.in_channels, awkward_size(config, (size, size))
        shapes = (("noise", 2, (size, size)), ("natural", 4, (size, size)), ("natural", 2, odd), ("noise", 1, odd))
        self.inputs = [
            synthetic(kind, (n, channels, *space), 50_000 + 10 * seed + i) for i, (kind, n, space) in enumerate(shapes)
        ]
        bright = self.inputs[0].array - self.inputs[0].array.min()
        self.inputs.insert(0, Batch("bright", bright, "array"))
        self.images = pixels(model.images.preprocess, 60_000 + seed)
        module = torch_module(model)
        run = torch_engine(module)
        batches = [*self.inputs, *self.images]
        self.rounded = {batch.name: run(batch.array) for batch in batches}
        run = torch_engine(module, double=True)
        self.exact = {batch.name: run(batch.array) for batch in batches}
        self.own = max(relative_error(self.rounded[b.name], self.exact[b.name]) for b in batches)

    def measure(self, mutant: Mutant) -> None:
        """Fill in the effect, and what the usual checks say."""
        mutant.own = self.own
        batches = self.images if mutant.form == "image" else self.inputs
        try:
            data = mutant.path if mutant.path.suffix == ".onnx" else to_onnx(_load(mutant.path)).SerializeToString()
            run = onnx_engine(data, threads=1)
            mutant.effect = max(self.effect(run, batch) for batch in batches)
            one, pick = batches[-1], slice(0, 1)  # the usual checks: one random image
            x = one.pixels if one.pixels is not None else one.array
            logits, expected = run(x[pick]), self.rounded[one.name][pick]
            mutant.cosine = logits.shape == expected.shape and _cosine(logits, expected) >= 0.9
            mutant.allclose = logits.shape == expected.shape and np.allclose(logits, expected, rtol=1e-3, atol=1e-3)
        except ConverterError:
            mutant.effect = float("inf")

    def effect(self, run, batch: Batch) -> float:
        """Largest change of a logit, relative to the largest logit."""
        try:
            logits = run(batch.array if batch.pixels is None else batch.pixels)
        except ConverterError:
            return float("inf")
        return relative_error(logits, self.exact[batch.name])


def _load(path: Path) -> Model:
    from converter.reading.load import load

    return load(path)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(all="ignore"):  # of logits that are not finite
        return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def judge(reference: Path, found: list[Mutant]) -> None:
    """Let verification judge broken networks, and note its verdict on each."""
    for i in range(0, len(found), CHUNK):
        part = found[i : i + CHUNK]
        verdict = verify(reference, *(mutant.path for mutant in part), engines=("torch", "onnxruntime@1"))
        for mutant in part:
            note(mutant, verdict)


def note(mutant: Mutant, verdict: Verification) -> None:
    """One mutant's part of a verdict."""
    name = mutant.path.name
    engine = next(key for key in verdict.results if key.endswith(f", {name}"))
    failures = [c.problem for c in verdict.results[engine] if c.problem]
    failures += [p for key, j in verdict.budgets.items() if key == engine for p in j.problems]
    static = [f"{c.name}: {c.detail}" for c in verdict.checks[name] if c.ok is False]
    mutant.by_numbers, mutant.killed = bool(failures), bool(failures or static)
    mutant.reason = "; ".join([*failures[:1], *static[:1]])
    if engine in verdict.breaks:
        mutant.named = verdict.breaks[engine].module


def honest(reference: Path, model: Model, folder: Path, quick: bool) -> tuple[int, list[str]]:
    """Honest artifacts in every engine: how many pairs, and which failed."""
    graphs = [("exact", 21), ("fused", 21)] if quick else [("exact", 13), ("exact", 21), ("fused", 13), ("fused", 21)]
    files = []
    for graph, opset in graphs:
        files.append(folder / f"honest-{graph}-{opset}.onnx")
        files[-1].write_bytes(to_onnx(model, graph=graph, opset=opset).SerializeToString())
    files.append(folder / "honest-image.onnx")
    files[-1].write_bytes(to_onnx(model, image_input=True).SerializeToString())
    for suffix in (".safetensors", ".pth", ".npz"):
        files.append(folder / f"honest{suffix}")
        convert(reference, files[-1])
    engines = ["torch", "torch-channels-last", "onnxruntime"]
    if not quick:
        engines += ["onnxruntime-disabled", "onnxruntime-basic", "onnxruntime-extended", "onnxruntime@1"]
    settings = {} if model.config.eps == DenseNetConfig.eps else {"eps": model.config.eps}
    verdict = verify(reference, *files, engines=engines, settings=settings)
    pairs = 0
    alarms = []
    for engine, comparisons in verdict.results.items():
        pairs += 1
        alarms += [f"{engine}, {c.batch}: {c.problem}" for c in comparisons if c.problem]
    for name, checks in verdict.checks.items():
        alarms += [f"{name}: {c.name}: {c.detail}" for c in checks if c.ok is False]
    return pairs, alarms + list(verdict.problems)


# -- the whole ---------------------------------------------------------------------------------


def run(names: list[str], seeds: int, depths: int, quick: bool) -> dict[str, object]:
    """Everything, as plain values."""
    import torch

    torch.set_num_threads(1)  # small networks: threads would wait for each other longer than they work
    start = time.perf_counter()
    found: list[Mutant] = []
    alarms: list[str] = []
    pairs = 0
    for name in names:
        for seed in range(seeds):
            subject = SUBJECTS[name]
            model = network(subject, seed)
            with tempfile.TemporaryDirectory() as here:
                folder = Path(here)
                reference = folder / "reference.safetensors"
                write_safetensors(reference, model.tensors, {**model.metadata(), "densenet.layout": "library"})
                count, raised = honest(reference, model, folder, quick)
                pairs, alarms = pairs + count, alarms + [f"{name} {seed}: {alarm}" for alarm in raised]
                if seed == 0:
                    probe = Probe(model, subject.size, seed)
                    made = list(mutants(model, folder, depths))
                    for mutant in made:
                        probe.measure(mutant)
                    judge(reference, made)
                    found += made
            print(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return summary(found, pairs, alarms, time.perf_counter() - start)


def summary(found: list[Mutant], pairs: int, alarms: list[str], seconds: float) -> dict[str, object]:
    """Counts and rates."""
    counting = [m for m in found if m.counts]
    fainter = [m for m in found if not m.counts]
    single = [m for m in counting if m.single and m.by_numbers]

    def rate(part: list[Mutant], what: str) -> str:
        return f"{sum(getattr(m, what) for m in part)} of {len(part)}"

    return {
        "kinds": len({m.fault for m in found}),
        "faults": len(found),
        "counting": len(counting),
        "killed": sum(m.killed for m in counting),
        "killed_by_numbers": sum(m.by_numbers for m in counting),
        "fainter_killed": rate(fainter, "killed"),
        "named": sum(m.rightly_named for m in single),
        "named_of": len(single),
        "cosine_passes": sum(m.cosine for m in counting),
        "allclose_passes": sum(m.allclose for m in counting),
        "honest_pairs": pairs,
        "false_alarms": alarms,
        "survivors": [_said(m) for m in counting if not m.killed],
        "fainter_survivors": [_said(m) for m in fainter if not m.killed],
        "misnamed": [_said(m) for m in single if not m.rightly_named],
        "kinds_missed": {
            check: sorted({m.fault for m in counting if getattr(m, check)}) for check in ("cosine", "allclose")
        },
        "seconds": round(seconds, 1),
    }


def _said(m: Mutant) -> str:
    return f"{m.fault} at {m.module} ({m.form}), effect {m.effect:.1e}, own {m.own:.1e}: named {m.named!r}, {m.reason}"


def main() -> None:
    """Break, judge and print; exit status 1 if a fault survives or an alarm is false."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network, two depths: under a minute")
    parser.add_argument("--model", action="append", choices=list(SUBJECTS), help="networks to break")
    parser.add_argument("--seeds", type=int, default=2, help="honest networks of each kind; the first is broken too")
    parser.add_argument("--depths", type=int, default=3, help="modules each fault is applied to")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    names = args.model or (["tiny"] if args.quick else list(USUAL))
    result = run(names, 1 if args.quick else args.seeds, 2 if args.quick else args.depths, args.quick)
    counting = result["counting"]
    print(f"{result['faults']} faults of {result['kinds']} kinds; {counting} count, in {result['seconds']} s")
    print(f"densenet verify   kills {result['killed']} of {counting} ({result['killed_by_numbers']} by numbers alone)")
    print(f"                  and of fainter faults {result['fainter_killed']}")
    print(f"                  names the module in {result['named']} of {result['named_of']}")
    print(f"                  false alarms: {len(result['false_alarms'])} in {result['honest_pairs']} honest pairs")
    for check, name in (("cosine", "cosine >= 0.9"), ("allclose", "allclose at 1e-3")):
        print(f"{name:<18}kills {counting - result[f'{check}_passes']} of {counting}")
    for kind in ("survivors", "fainter_survivors", "misnamed", "false_alarms"):
        for line in result[kind]:
            print(f"{kind.replace('_', ' ')}: {line}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if result["survivors"] or result["false_alarms"] else 0)


if __name__ == "__main__":
    main()
