"""From followed code to the network it computes, whichever dialect it is written in."""

from collections.abc import Callable
from dataclasses import replace

from converter.core.checkpoint import Checkpoint
from converter.core.errors import NotADenseNet
from converter.structures.parts import Structure
from converter.structures.torch.code import Interpreter
from converter.structures.wiring import read_wiring


def read_code(name: str, checkpoint: Checkpoint, interpreter: Callable[[], Interpreter]) -> Structure:
    """The network that code computes.

    Args:
        name: of the source's conventions.
        checkpoint: the file.
        interpreter: makes what follows the code.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    where = checkpoint.path
    try:
        code = interpreter()
        start, results = code.follow()
        keys = [weight.key for weight in code.weights.values()]
        structure = read_wiring(name, code.operators.ops, start, results, constants=keys, head=checkpoint.head)
    except RecursionError as error:
        raise NotADenseNet(f"{where}: its code is nested too deeply") from error
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    return replace(structure, notes=(*code.notes, *structure.notes))
