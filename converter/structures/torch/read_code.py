"""From followed code to the network it computes, whichever dialect it is written in."""

from collections.abc import Callable
from dataclasses import replace

from converter.core.errors import NotADenseNet
from converter.structures.parts import Structure
from converter.structures.torch.code import Interpreter
from converter.structures.wiring import read_wiring


def read_code(name: str, where: str, interpreter: Callable[[], Interpreter]) -> Structure:
    """The network that code computes.

    Args:
        name: of the source's conventions.
        where: names the file in errors.
        interpreter: makes what follows the code.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    try:
        code = interpreter()
        start, results = code.follow()
        keys = [weight.key for weight in code.weights.values()]
        structure = read_wiring(name, code.operators.ops, start, results, constants=keys)
    except RecursionError as error:
        raise NotADenseNet(f"{where}: its code is nested too deeply") from error
    except NotADenseNet as error:
        raise NotADenseNet(f"{where}: {error}") from error
    return replace(structure, notes=(*code.notes, *structure.notes))
