"""The process in which a user's own network runs: their code is imported here, and nowhere else.

Run by its path, so nothing of this package is imported beside their code.  What is asked
and answered are lines of JSON; arrays are ``.npy`` files of a folder that the asker made
and names.  What their code prints goes where its errors go; when the asker is gone, so is this.
"""

import hashlib
import json
import os
import queue
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from pathlib import Path
from typing import IO, Any

LEGACY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")
"""torchvision's own renaming of the names in its published files."""
LISTED = 3
PACKAGES = f"{os.sep}site-packages{os.sep}"

Ask = Mapping[str, Any]
State = dict[str, Any]


class Refused(Exception):
    """What they wrote is not what can be run; says why in one line."""


class Network:
    """What their function gave, and how to run it.

    Attributes:
        kind: ``torch``, ``keras`` or ``function``.
        loaded: where its weights come from, in words.
    """

    def __init__(self, made: Any, kind: str, loaded: str, channels: int) -> None:
        self.made, self.kind, self.loaded, self.channels = made, kind, loaded, channels

    def __call__(self, images: Any, *, double: bool) -> Any:
        """Logits of a batch, float32, or what a module in float64 gives."""
        run = {"torch": self._torch, "keras": self._keras, "function": self.made}[self.kind]
        logits = array_of(run(images, double=double) if self.kind == "torch" else run(images))
        return logits if double else logits.astype("float32")

    def _torch(self, images: Any, *, double: bool) -> Any:
        import torch  # noqa: PLC0415 (theirs)

        dtype = torch.float64 if double else torch.float32
        with torch.inference_mode():
            return self.made.to(dtype).eval()(torch.from_numpy(images).to(dtype))

    def _keras(self, images: Any) -> Any:
        import numpy as np  # noqa: PLC0415

        shape = getattr(self.made, "input_shape", None)
        first = isinstance(shape, tuple) and shape[1] == self.channels and shape[-1] != self.channels
        return self.made(images if first else np.ascontiguousarray(np.moveaxis(images, 1, -1)), training=False)

    def weights(self) -> list[str]:
        """SHA-256 of every floating tensor of a torch module, as float32."""
        if self.kind != "torch":
            return []
        values = (value for value in self.made.state_dict().values() if value.is_floating_point())
        return sorted({hashlib.sha256(value.float().contiguous().numpy().tobytes()).hexdigest() for value in values})


def array_of(value: Any) -> Any:
    """An array of numbers from whatever frameworks return."""
    import numpy as np  # noqa: PLC0415 (their path comes first)

    if isinstance(value, Mapping) and "logits" in value:
        value = value["logits"]
    elif not hasattr(value, "shape") and hasattr(value, "logits"):
        value = value.logits
    if isinstance(value, Mapping) or (isinstance(value, (tuple, list)) and any(hasattr(v, "shape") for v in value)):
        raise Refused(f"it gave a {type(value).__name__}; let it give the logits alone")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value if value.dtype.itemsize >= 4 else value.float()
    result = np.asarray(value)
    if result.dtype.kind != "f":
        raise Refused(f"it gave {type(value).__name__} of {result.dtype}; logits are floating point")
    return result


# -- what their function gives ---------------------------------------------------------------


def found(ask: Ask) -> Any:
    """Their function, imported as ``python FILE`` or ``python -m`` would find it."""
    import importlib.util  # noqa: PLC0415

    if not ask["file"]:
        sys.path.insert(0, str(Path.cwd()))
        module = importlib.import_module(ask["home"])
    else:
        file = Path(ask["home"])
        sys.path.insert(0, str(file.parent))
        name = file.stem if file.stem not in sys.modules else f"original_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise Refused(f"{file} is no Python file")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    try:
        return reduce(getattr, ask["function"].split("."), module)
    except AttributeError:
        have = [name for name in vars(module) if not name.startswith("_") and callable(getattr(module, name))]
        raise Refused(
            f"there is no {ask['function']} in it; there are {', '.join(have[:8]) or 'no functions'}"
        ) from None


def network(ask: Ask) -> Network:
    """The network of an original: made, in evaluation mode, with weights."""
    import inspect  # noqa: PLC0415

    given, takes_file = found(ask), False
    if kind_of(given) == "function":
        parameters = inspect.signature(given).parameters.values()
        needed = [
            p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if len(needed) > 1:
            raise Refused(f"it takes {len(needed)} arguments; it may take none, or one, the file's path")
        takes_file = bool(needed)
        given = given(ask["path"]) if takes_file else given()
    kind = kind_of(given)
    if kind == "nothing":
        what = f"a {type(given).__name__}" if given is not None else "nothing"
        raise Refused(f"it gave {what}; let it give a torch.nn.Module, a Keras model, or a function of images")
    loaded = "its function loaded the file" if takes_file else "it brings its own weights"
    if kind == "torch":
        given = given.to("cpu")
        if not takes_file and is_fresh(given):
            loaded = load_file(given, ask)
        given = given.float().eval()
    return Network(given, kind, loaded, ask["channels"])


def kind_of(value: Any) -> str:
    """What can be done with it; a class is a function that makes something."""
    if not isinstance(value, type):
        for cls in type(value).__mro__:
            if cls.__module__.startswith("torch.") and cls.__name__ == "Module":
                return "torch"
            if cls.__name__ == "Model" and re.match(r"(tf_)?keras\.|tensorflow\.", cls.__module__):
                return "keras"
    return "function" if callable(value) else "nothing"


def is_fresh(module: Any) -> bool:
    """Whether it is as it was made: every norm has still mean 0 and variance 1."""
    state = module.state_dict()
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    return bool(means) and not any(m.any() for m in means) and all(bool((v == 1).all()) for v in variances)


def load_file(module: Any, ask: Ask) -> str:
    """Load the file as its users would: strictly, from the place and under the prefix where our reading found it."""
    path = Path(ask["path"])
    tree = safely_read(path)
    for part in steps_to(tree, ask["inside"]):
        tree = tree[part]
    if not isinstance(tree, Mapping):
        raise Refused(f"{path.name} holds no state dict; let the function take the path and load it")
    wanted, problem = set(module.state_dict()), ""
    for prefix, state, how in readings(tree, ask["prefix"]):
        counted = {name for name in wanted if not name.endswith("num_batches_tracked")}
        missing, unexpected = sorted(counted - set(state)), sorted(set(state) - wanted)
        if not (missing or unexpected):
            module.load_state_dict(state)
            beside = len(tree) - len(state)
            said = [f"from {ask['inside']}" * bool(ask["inside"]), f"without {prefix!r}" * bool(prefix), how]
            said += [f"leaving out {beside} keys beside" * bool(beside)]
            return f"it had no weights, and the file was loaded into it strictly{''.join(f', {s}' for s in said if s)}"
        lacks = [f"missing {', '.join(missing[:LISTED])}" * bool(missing)]
        lacks += [f"unexpected {', '.join(unexpected[:LISTED])}" * bool(unexpected)]
        problem = problem or "; ".join(filter(None, lacks))
    raise Refused(f"it has no weights yet, and {path.name} does not fit it ({problem}); let the function take the path")


def safely_read(path: Path) -> Any:
    """What a file of tensors holds, by torch's or safetensors' own safe means."""
    import torch  # noqa: PLC0415 (theirs)

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as read  # noqa: PLC0415

            return read(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        why = "it holds more than tensors" if "eights only" in str(error) else line_of(error)
        raise Refused(
            f"it has no weights yet, and torch.load(weights_only=True) does not read {path.name} ({why}); "
            "let the function take the path and load it"
        ) from error


def steps_to(tree: Any, inside: str) -> Iterator[Any]:
    """The keys that lead to a place; a key may have dots in it."""
    parts = inside.split(".") if inside else []
    while parts:
        for count in range(len(parts), 0, -1):
            key: Any = ".".join(parts[:count])
            if isinstance(tree, list) and key.isdecimal():
                key = int(key)
            if (isinstance(tree, Mapping) and key in tree) or (isinstance(key, int) and key < len(tree)):
                yield key
                tree, parts = tree[key], parts[count:]
                break
        else:
            raise Refused(f"there is no {inside} in what torch.load gives; let the function take the path and load it")


def readings(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, State, str]]:
    """State dicts to try: as it is, without what stands before the names, with torchvision's new names."""
    parts = prefix.split(".") if prefix else [""]
    starts = dict.fromkeys([*(".".join(parts[:i]) + "." * bool(i) for i in range(len(parts))), prefix])
    for old in (False, True):
        for start in starts:
            state = {name[len(start) :]: value for name, value in tree.items() if name.startswith(start)}
            if old:
                state = {LEGACY.sub(r"\1\2", name): value for name, value in state.items()}
            yield start, state, "with torchvision's new names" if old else ""


# -- questions and answers ------------------------------------------------------------------


def line_of(error: BaseException) -> str:
    """An exception in one line, and where in their code it was raised."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, SystemExit):
        said = f"sys.exit({error.code!r}) was called"
    else:
        text = " ".join(str(error).split())
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and PACKAGES not in file and not file.startswith("<"):
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{said[:500]}{place}"


def answer(network_of: Network, ask: Ask) -> Ask:
    """Run one batch."""
    import numpy as np  # noqa: PLC0415

    logits = network_of(np.load(ask["input"], allow_pickle=False), double=ask["double"])
    np.save(ask["output"], np.ascontiguousarray(logits), allow_pickle=False)
    return {"dtype": str(logits.dtype)}


def attempt(work: Callable[[], Ask]) -> Ask:
    """What came of it: an answer, or why there is none."""
    try:
        return work()
    except BaseException as error:  # sys.exit and the like, too
        return {"error": line_of(error)}


def streams() -> tuple[IO[str], IO[str]]:
    """Where questions come from and answers go; their code sees neither."""
    asked, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return asked, answers


def main() -> None:
    """Answer until nobody asks any more."""
    asked, answers = streams()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in asked:
            lines.put(line)
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        os._exit(0)  # the asker is gone, whatever their code is doing

    threading.Thread(target=listen, daemon=True).start()

    def reply(values: Ask) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    made: list[Network] = []

    def start(ask: Ask) -> Ask:
        made.append(network(ask))
        return {"kind": made[0].kind, "loaded": made[0].loaded, "weights": made[0].weights()}

    reply(attempt(partial(start, json.loads(lines.get()))))
    while True:
        ask = json.loads(lines.get())
        reply(attempt(partial(answer, made[0], ask)))


if __name__ == "__main__":
    main()
