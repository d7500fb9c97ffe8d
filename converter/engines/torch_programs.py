"""PyTorch's own deployment formats: programs of torch.export, and TorchScript.

Both hold a program.  It is run only where this tool wrote it and every function in it is one of those that a
DenseNet needs: what else a file asks for is named, and not run.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, UnreadableFile, UnsafeFile, first_line
from converter.core.metadata import CONFIG_KEY, MEMBER, json_or_none, parsed, to_json
from converter.engines.run import Run
from converter.engines.runtime import Declared, Job, Runtime
from converter.engines.torch import torch_module
from converter.exporters.outputs import MAPS, sizes_of
from converter.formats import open_checkpoint
from converter.formats.zips import Zip, ZipWriter
from densenet.config import DenseNetConfig

QUALIFIED = re.compile(r"__torch__(?:\.\w+)+")
"""Names of a TorchScript file's own classes and functions, whose code is in the file."""
CALLED = re.compile(r"(\bclass |\bdef |\.?)\s*\b(\w+)\s*\(")
"""Names before a parenthesis, and what stands before those: a definition, a point, or nothing."""
ASSIGNED = re.compile(r"\b(\w+) = |\b(\w+): ")
CHILD = re.compile(r'\bgetattr\(\w+, "\d+"\)')
METHODS = frozenset("forward forward_features pool pooled around first_half _conv_forward _check_input_dim".split())
"""Methods of our modules, and of PyTorch's that they are made of: their code is in the file."""
SYNTAX = frozenset(
    "if elif while for in not and or return int float bool range annotate unchecked_cast getattr".split()
)
"""What stands before a parenthesis in TorchScript without a point, and calls nothing."""
HARMLESS = frozenset(
    """
    conv1d conv2d conv3d _convolution batch_norm max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d cat
    relu relu_ hardtanh hardtanh_ gelu silu silu_ mish mish_ tanh sigmoid softplus hardswish hardswish_ hardsigmoid
    hardsigmoid_ selu selu_ leaky_relu leaky_relu_ elu elu_ celu celu_ abs div mean amax flatten linear mul add add_ sub
    neg pad constant_pad_nd reflection_pad2d dropout dropout_ size dim len format append floordiv remainder eq ne gt ge
    lt le __is__ __isnot__ __not__ __derive_index __range_length __getitem__ unchecked_cast annotate list index
    slice select max min RaiseException NumToTensor Int sym_size
    """.split()
)
"""Functions of ATen and of TorchScript that compute from what they are given, and do nothing else."""
OPERATORS = frozenset(f"_operator.{name}" for name in "add sub mul floordiv mod neg eq ne gt ge lt le getitem".split())
LENGTHS = frozenset(("torch.sym_max", "torch.sym_min"))
"""What programs compute of lengths beside that."""
MEMBERS = re.compile(
    r"(data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version)"
)
"""Members of a program that hold no pickle."""
RAW = re.compile(r"(weight|tensor)_\d+")
"""Names of arrays, which are raw bytes: a network's weights, and what its modules hold beside them."""
PROGRAM = "models/model.json"
SYMBOL = re.compile(r"[su]\d+")
EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'|Integer\(|FloorDiv\(|CeilDiv\(|PythonMod\(|Mod\(|Max\(|Min\(|Mul\(|Add\(|Pow\("
    r"|Rational\(|(?:positive|integer|nonnegative)=(?:True|False)|[su]\d+|\d+|[-+*/(), ])*"
)
"""A length that is computed from others, as text: PyTorch has Python evaluate it."""
CONFIG = "_config.json"
DEBUG = ".debug_pkl"
"""Where in whose sources TorchScript comes from: on this machine."""
SAMPLE = "data/sample_inputs/model.pt"


# -- torch.export --------------------------------------------------------------------------------


def _write_exported(job: Job, path: Path) -> None:
    """The module as a program of any batch and size."""
    import torch  # noqa: PLC0415 (slow to import)

    module, config, size = torch_module(job.model), job.model.config, job.shape[2:]
    while min(sizes_of(config, size)[MAPS]) < 2:  # of one position PyTorch makes a program for that alone
        size = tuple(2 * n for n in size)
    image = torch.zeros(2, config.in_channels, *size)
    any_length = dict.fromkeys((0, *range(2, config.spatial_dims + 2)), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(module, (image,), dynamic_shapes=(any_length,))
        program.example_inputs = None  # which would be kept
        saved = io.BytesIO()  # a path would name the folder in it
        torch.export.save(program, saved, extra_files={MEMBER: to_json(job.model.metadata())})
    path.write_bytes(saved.getbuffer())
    path.write_bytes(_pure(path, extra=True).getbuffer())


def _start_exported(path: Path, threads: int) -> Run:
    found = open_checkpoint(path)
    program = found.graph["program"] if isinstance(found.graph, dict) else {}
    targets = {str(node["target"]) for node in program["graph_module"]["graph"]["nodes"]}
    functions = {target.removeprefix("torch.ops.aten.").partition(".")[0] for target in targets - OPERATORS - LENGTHS}
    _only(path, functions)
    import torch  # noqa: PLC0415 (slow to import)

    try:
        with warnings.catch_warnings(action="ignore"):
            module = torch.export.load(_pure(path)).module()
    except ConverterError:
        raise
    except Exception as error:  # whatever PyTorch raises
        raise UnreadableFile(f"{path}: torch.export cannot load it ({first_line(error)})") from error
    return _running(path, module, "torch.export")


def _pure(path: Path, *, extra: bool = False) -> io.BytesIO:
    """The archive with nothing but a DenseNet's graph and its raw weights, and what else is harmless.

    Of what it may hold besides, PyTorch unpickles some and runs some (guards, texts of lengths).

    Raises:
        UnsafeFile: it holds something that no program of a DenseNet needs.
    """
    archive, result = Zip(path), io.BytesIO()
    with ZipWriter(result) as clean:
        for name in archive.names:
            inside = name.partition("/")[2]
            if inside == SAMPLE:
                clean.add(name, b"")
            elif inside == PROGRAM:
                clean.add(name, json.dumps(_pure_program(path, parsed(bytes(archive.read(name))))).encode())
            elif MEMBERS.fullmatch(inside):
                data = archive.read(name)
                if inside.endswith(CONFIG):
                    _check_raw(path, name, json_or_none(bytes(data)))
                clean.add(name, data.data)
            elif not inside.startswith("extra/"):
                raise UnsafeFile(f"{path}: holds {name}, which no program of a DenseNet needs; it is not run")
            elif extra:
                clean.add(name, archive.read(name).data)
    result.seek(0)
    return result


def _pure_program(path: Path, program: Any) -> Any:
    """A program without its guards and without where in whose sources its operators come from."""
    try:
        graph = program["graph_module"]["graph"]
        texts = [text for text in _under(program, "expr_str") if not EXPRESSION.fullmatch(str(text))]
        texts += [name for name in program["range_constraints"] if not SYMBOL.fullmatch(name)]
        if texts:
            raise UnsafeFile(f"{path}: its program has Python evaluate {texts[0]!r}; it is not run")
        nodes = [{**node, "metadata": {}} for node in graph["nodes"]]
        module = {**program["graph_module"], "graph": {**graph, "nodes": nodes}, "metadata": {}}
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{path}: its program is damaged") from error
    return {**program, "graph_module": module, "guards_code": []}


def _under(node: Any, key: str) -> Iterator[Any]:
    """The values of a key, wherever it stands."""
    waiting = [node]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_raw(path: Path, name: str, config: Any) -> None:
    """Refuse tensors that are not raw bytes."""
    try:
        entries = list(config["config"].values())
        raw = all(entry["use_pickle"] is False and RAW.fullmatch(entry["path_name"]) for entry in entries)
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{path}: {name} is damaged") from error
    if not raw:
        raise UnsafeFile(f"{path}: {name} names what is pickled, which is not run")


# -- TorchScript ---------------------------------------------------------------------------------


def _write_script(job: Job, path: Path) -> None:
    """The module, compiled: of any batch and size."""
    import torch  # noqa: PLC0415 (slow to import)

    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        script: Any = torch.jit
        compiled = script.script(torch_module(job.model))
        saved = io.BytesIO()
        script.save(compiled, saved, _extra_files={MEMBER: to_json(job.model.metadata())})
    path.write_bytes(saved.getbuffer())
    path.write_bytes(_once(path).getbuffer())


def _once(path: Path) -> io.BytesIO:
    """The archive with each member once, as it was read here, and without where on this machine its code comes from."""
    archive, result = Zip(path), io.BytesIO()
    with ZipWriter(result) as clean:
        for name in archive.names:
            if not name.endswith(DEBUG):
                clean.add(name, archive.read(name).data)
    result.seek(0)
    return result


def _start_script(path: Path, threads: int) -> Run:
    found = open_checkpoint(path)
    code = found.graph["code"] if isinstance(found.graph, dict) else {}
    _only(path, {name for text in code.values() for name in _calls(path, QUALIFIED.sub("", text))})
    import torch  # noqa: PLC0415 (slow to import)

    script: Any = torch.jit
    try:
        with warnings.catch_warnings(action="ignore"):
            module = script.load(_once(path), map_location="cpu")
    except Exception as error:  # whatever PyTorch raises
        raise UnreadableFile(f"{path}: TorchScript cannot load it ({first_line(error)})") from error
    return _running(path, module.eval(), "TorchScript")


def _calls(path: Path, text: str) -> Iterator[str]:
    """What a file of TorchScript calls, beside its own methods.

    Raises:
        UnsafeFile: it is not written as TorchScript writes it, and may hide what it calls.
    """
    if any(mark in text for mark in "#\\") or text.count("getattr") != len(CHILD.findall(text)):
        raise UnsafeFile(f"{path}: its code is not as TorchScript writes it; it is not run")
    local = {name for pair in ASSIGNED.findall(text) for name in pair}
    for before, name in CALLED.findall(text):
        known = METHODS if before == "." else SYNTAX | local
        if before in (".", "") and name not in known:
            yield name


# -- both ----------------------------------------------------------------------------------------


def _only(path: Path, functions: set[str]) -> None:
    """Refuse a program that calls anything but what a DenseNet needs."""
    strange = sorted(functions - HARMLESS)
    if strange:
        raise UnsafeFile(f"{path}: its program calls {', '.join(strange[:3])}, which no DenseNet needs; it is not run")


def _running(path: Path, module: Any, name: str) -> Run:
    import torch  # noqa: PLC0415 (loaded by now)

    def run(x: Array) -> Array:
        try:
            with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
                logits: Array = module(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        except Exception as error:  # whatever PyTorch raises
            raise ConverterError(f"{path}: {name} failed on input {list(x.shape)} ({first_line(error)})") from error
        return logits

    return run


def _declared(path: Path) -> Declared:
    found = open_checkpoint(path)
    said = json_or_none(found.metadata.get(CONFIG_KEY, ""))
    try:
        config = DenseNetConfig.from_dict(said)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{path}: {CONFIG_KEY} is damaged ({error})") from error
    shape = (None, config.in_channels, *(None,) * config.spatial_dims)
    return Declared(shape, config.num_classes or config.classifier_features, "fp32", found.metadata)


def _only_ours(suffix: str) -> Callable[[Path], bool]:
    """Whether a file is this tool's own: others' are checkpoints, which are read and not run."""

    def matches(path: Path) -> bool:
        if path.suffix != suffix or not path.is_file():
            return False
        with suppress(ConverterError):
            return any(name.partition("/")[2] == f"extra/{MEMBER}" for name in Zip(path).names)
        return False

    return matches


EXPORTED = Runtime(
    key="torch-export",
    name="torch.export",
    suffix=".pt2",
    published="torch/model.pt2",
    extra="torch",
    writes=("torch",),
    runs=("torch",),
    write=_write_exported,
    matches=_only_ours(".pt2"),
    declared=_declared,
    start=_start_exported,
    fixed=False,
)
TORCHSCRIPT = Runtime(
    key="torchscript",
    name="TorchScript",
    suffix=".pt",
    published="torch/model.pt",
    extra="torch",
    writes=("torch",),
    runs=("torch",),
    write=_write_script,
    matches=_only_ours(".pt"),
    declared=_declared,
    start=_start_script,
    fixed=False,
)
