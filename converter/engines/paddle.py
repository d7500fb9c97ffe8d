"""Paddle: an inference program as it is, or the network of ``paddle.vision`` with the file's parameters."""

from pathlib import Path
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import ConverterError, Unavailable, first_line
from converter.core.model import Model
from converter.engines.run import Run
from converter.formats import open_checkpoint
from densenet.config import NAMED

PROGRAMS = (".pdmodel", ".json")
VISION = {"densenet121": 121, "densenet161": 161, "densenet169": 169, "densenet201": 201}
"""Networks of paddle.vision.models.DenseNet, by their layers."""


def paddle_engine(model: Model, path: Path) -> Run:
    """The file's own program in Paddle Inference, or ``paddle.vision``'s network with its parameters.

    Raises:
        Unavailable: it holds parameters alone, of a network ``paddle.vision`` does not have.
        ConverterError: its names are none of ``paddle.vision``'s; when run: Paddle failed on this input.
    """
    program = next((p for p in map(path.with_suffix, PROGRAMS) if p.is_file()), None)
    return _program(program) if program is not None else _vision(model, path)


def _program(program: Path) -> Run:
    from paddle import inference  # noqa: PLC0415

    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_gpu()
    config.disable_glog_info()
    config.switch_ir_optim(False)
    predictor = inference.create_predictor(config)
    takes, gives = predictor.get_input_names(), predictor.get_output_names()
    if len(takes) != 1 or len(gives) != 1:
        raise ConverterError(f"{program}: takes {len(takes)} inputs and gives {len(gives)} outputs; one of each is run")

    def run(x: Array) -> Array:
        images = predictor.get_input_handle(takes[0])
        try:
            images.reshape(list(x.shape))
            images.copy_from_cpu(np.ascontiguousarray(x))
            predictor.run()
            return np.asarray(predictor.get_output_handle(gives[0]).copy_to_cpu(), np.float32)
        except Exception as error:  # its errors share no class
            raise ConverterError(f"paddle failed on input {list(x.shape)} ({first_line(error)})") from error

    return run


def _vision(model: Model, path: Path) -> Run:
    """Parameters go by their names; they are read by us, since ``paddle.load`` runs what a pickle asks for."""
    import paddle  # noqa: PLC0415
    from paddle.vision.models import DenseNet  # noqa: PLC0415

    config = model.config
    name = next((n for n in VISION if NAMED[n].tensors().keys() == config.tensors().keys()), None)
    if name is None:
        raise Unavailable(f"paddle.vision has no {config.name}")
    network = DenseNet(layers=VISION[name], num_classes=config.num_classes)
    tree: Any = open_checkpoint(path).tree
    for part in filter(None, model.origin.inside.split(".")):
        tree = tree[part]
    prefix = model.origin.prefix
    state = {
        k.removeprefix(prefix): v.read() for k, v in tree.items() if isinstance(v, Tensor) and k.startswith(prefix)
    }
    missing, unexpected = network.set_state_dict({k: paddle.to_tensor(np.array(v)) for k, v in state.items()})
    if missing or unexpected:
        raise ConverterError(
            f"{path}: is none of paddle.vision's own files (missing {', '.join(missing[:3]) or 'nothing'})"
        )
    network.eval()

    def run(x: Array) -> Array:
        with paddle.no_grad():
            return np.asarray(network(paddle.to_tensor(x)).numpy(), np.float32)

    return run
