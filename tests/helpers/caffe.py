"""Caffe files, written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter import load
from densenet.config import DenseNetConfig
from densenet.topology import steps
from helpers.wire import data, number, varint

FACTOR = 8.0
"""What the tests' batch norms are stored multiplied with: a power of two, so that nothing is rounded."""


def blob(array: np.ndarray, *, form: str = "float") -> bytes:
    """A BlobProto; ``form`` is float, double, unpacked (dims one by one) or legacy (four of them, always)."""
    raw = data(8, array.astype("<f8").tobytes()) if form == "double" else data(5, array.astype("<f4").tobytes())
    if form == "legacy":
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(i + 1, n) for i, n in enumerate(dims)) + raw
    if form == "unpacked":
        return raw + data(7, b"".join(number(1, n) for n in array.shape))
    return raw + data(7, data(1, b"".join(varint(n) for n in array.shape)))


def layer(name: str, kind: str, *blobs: np.ndarray, more: bytes = b"", form: str = "float") -> bytes:
    return data(100, data(1, name) + data(2, kind) + b"".join(data(7, blob(b, form=form)) for b in blobs) + more)


def norm(name: tuple[str, str], tensors: dict, module: str, *, eps: bytes = b"", form: str = "float") -> bytes:
    get = lambda leaf: tensors[f"{module}.{leaf}"]  # noqa: E731
    sums = (get("running_mean") * FACTOR, get("running_var") * FACTOR, np.array([FACTOR]))
    return layer(name[0], "BatchNorm", *sums, more=eps, form=form) + layer(
        name[1], "Scale", get("weight"), get("bias"), form=form
    )


def shicai_name(module: str, config: DenseNetConfig, *, of_201: bool) -> str:
    parts = module.split(".")
    if parts[0] == "stem":
        return "conv1"
    if parts[0] == "blocks":
        return f"conv{int(parts[1]) + 2}_{int(parts[3]) + 1}/x{parts[4][-1]}"
    if parts[0] == "classifier":
        return "fc6"
    b = int(parts[1]) if parts[0] == "transitions" else len(config.block_config) - 1
    return f"conv{b + 2}_{config.block_config[b]}/blk" if of_201 else f"conv{b + 2}_blk"


def shicai(
    config: DenseNetConfig,
    tensors: dict,
    *,
    of_201: bool = False,
    form: str = "float",
    eps: bytes = b"",
    pools: bytes = b"",
    classifier: str = "fc6",
) -> bytes:
    out = data(1, "DENSENET") + layer("input", "Input") + pools
    for module in config.modules():
        name = shicai_name(module.name, config, of_201=of_201)
        if module.kind == "norm":
            out += norm((f"{name}/bn", f"{name}/scale"), tensors, module.name, eps=eps, form=form)
        elif module.kind == "conv":
            out += layer(name, "Convolution", tensors[f"{module.name}.weight"], form=form)
        else:
            kernel = tensors["classifier.weight"][:, :, None, None]
            out += layer(classifier, "Convolution", kernel, tensors["classifier.bias"], form=form)
    return out


def netspec(config: DenseNetConfig, tensors: dict, *, form: str = "float") -> bytes:
    out, norms, convolutions = b"", 0, 0
    for module in config.modules():
        if module.kind == "norm":
            norms += 1
            out += norm((f"BatchNorm{norms}", f"Scale{norms}"), tensors, module.name, form=form)
        elif module.kind == "conv":
            convolutions += 1
            out += layer(f"Convolution{convolutions}", "Convolution", tensors[f"{module.name}.weight"], form=form)
            out += layer(f"Dropout{convolutions}", "Dropout")
        else:
            arrays = (tensors["classifier.weight"], tensors["classifier.bias"])
            out += layer("InnerProduct1", "InnerProduct", *arrays, form=form)
    return out


def described(config: DenseNetConfig, **changes: str) -> str:
    """The prototxt of a network with :func:`shicai`'s names; ``changes`` are a layer's parameters by its name."""
    out, tops = 'name: "DENSENET"\ninput: "data"\ninput_dim: [1, 3, 64, 64]\n', {"pixel_values": "data"}

    def add(name: str, kind: str, bottoms: list[str], top: str, said: str = "") -> str:
        nonlocal out
        said = changes.get(name.replace("/", "_"), said)
        kind = said[1:] if said.startswith("=") else kind
        takes = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        out += f'layer {{ name: "{name}" type: "{kind}"{takes} top: "{top}" {said if said[:1] != "=" else ""} }}\n'
        return top

    for step in steps(config):
        bottoms = [tops[value] for value in step.inputs]
        name = shicai_name(step.module.name, config, of_201=False) if step.module else step.name
        floor = "round_mode: FLOOR"
        if step.op == "norm":
            top = add(f"{name}/bn", "BatchNorm", bottoms, f"{name}/bn", f"batch_norm_param {{ eps: {config.eps} }}")
            tops[step.name] = add(f"{name}/scale", "Scale", [top], top, "scale_param { bias_term: true }")
        elif step.op == "relu":
            tops[step.name] = add(name, "ReLU", bottoms, bottoms[0])
        elif step.op == "concat":
            tops[step.name] = add(name, "Concat", bottoms, name)
        elif step.op == "linear":
            said = f"convolution_param {{ num_output: {config.num_classes} kernel_size: 1 }}"
            tops[step.name] = add(name, "Convolution", bottoms, name, said)
        elif step.op == "conv" and step.module is not None:
            size, stride = step.module.shape[-1], step.module.stride[0]
            said = f"kernel_size: {size} pad: {size // 2} stride: {stride} bias_term: false"
            tops[step.name] = add(name, "Convolution", bottoms, name, f"convolution_param {{ {said} }}")
        else:
            said = {
                "max_pool": f"kernel_size: 3 stride: 2 pad: 1 {'' if config.stem_ceil else floor}",
                "avg_pool": f"pool: AVE kernel_size: 2 stride: 2 {'' if config.transition_ceil else floor}",
                "global_pool": "pool: AVE global_pooling: true",
            }[step.op]
            tops[step.name] = add(name, "Pooling", bottoms, name, f"pooling_param {{ {said} }}")
    return out


def loaded(path: Path, content: bytes, **options) -> tuple[DenseNetConfig, dict, tuple[str, ...]]:
    path.write_bytes(content)
    model = load(path, **options)
    return model.config, {name: tensor.read() for name, tensor in model.tensors.items()}, model.notes


def same(have: dict, want: dict) -> None:
    assert list(have) == list(want)
    for name, array in want.items():
        np.testing.assert_array_equal(have[name], array, err_msg=name)
