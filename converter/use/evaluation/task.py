"""What a network is asked about a set of images: one class each, or each label by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError
from converter.use.evaluation.classes import Outputs, match_classes, simple
from converter.use.evaluation.dataset import Truths, few

TRUE = frozenset({"1", "1.0", "true", "yes"})
FALSE = frozenset({"0", "0.0", "false", "no"})
UNKNOWN = frozenset({"", "-1", "-1.0", "nan", "na", "null"})
"""CheXpert's tables have blanks where a report says nothing, and -1 where it is not sure."""
CLASS_COLUMNS = frozenset(
    {"class", "classes", "class name", "label", "labels", "finding labels", "category", "target", "diagnosis", "dx"}
)
"""What columns of classes are called."""
NOTHING = frozenset({"no finding", "none", ""})
"""What stands where no label holds, in a column of names between bars (NIH ChestX-ray14's Finding Labels)."""


@dataclass(frozen=True)
class Task:
    """Images and truths as a network's outputs.

    Attributes:
        images: files, or places of a set.
        truth: of one class each int64 (N,), the output; of labels float64 (N, L), 1, 0, or NaN where unknown.
        outputs: the output of each of the L labels.
        names: of all outputs, or of the L labels.
        how: how the written was matched with outputs.
        written: of one class each, what the truths call an output.
        notes: what people should know.
    """

    images: Sequence[Any]
    truth: Array
    outputs: tuple[int, ...]
    names: tuple[str, ...]
    how: str
    notes: tuple[str, ...] = ()
    written: Mapping[int, str] = field(default_factory=dict)

    @property
    def one_class_each(self) -> bool:
        """Whether the classes exclude each other."""
        return self.truth.ndim == 1


def understand(truths: Truths, outputs: Outputs, activation: str) -> Task:
    """The written truths as questions to a network of these outputs.

    Args:
        truths: as read.
        outputs: the network's.
        activation: ``sigmoid`` where each output is a question of its own.

    Raises:
        ConverterError: what is written does not fit the network.
    """
    if truths.kind != "table":
        columns = list(truths.columns)
        task = _of_classes(truths, "", outputs) if columns == [""] else _of_columns(truths, {}, columns, outputs)
    else:
        task = _of_table(truths, outputs)
    if not task.one_class_each and outputs.count > 1 and activation == "softmax":
        task = _exclusive(task, truths.where, outputs)
    elif task.one_class_each and activation == "sigmoid":
        note = "each output is a question of its own (sigmoid); of images with one class each the largest score counts"
        task = replace(task, notes=(*task.notes, note))
    return replace(task, notes=(*truths.notes, *task.notes))


def _of_table(truths: Truths, outputs: Outputs) -> Task:
    columns, loose = list(truths.columns), outputs.by_name()
    found = {name: loose[simple(name)] for name in columns if simple(name) in loose}
    if found:
        if len(set(found.values())) != len(found):
            raise ConverterError(f"{truths.where}: two of the columns {few(found)} are one output")
        return _of_columns(truths, found, list(found), outputs)
    called = [name for name in columns if simple(name) in CLASS_COLUMNS]
    if len(columns) == 1 or len(called) == 1:
        column = (called or columns)[0]
        if any("|" in value for value in truths.columns[column]):
            return _of_bars(truths, column, outputs)
        return _of_classes(truths, column, outputs)
    truthful = [name for name in columns if all(_value(value) is not None for value in truths.columns[name])]
    if len(truthful) == outputs.count:
        return _of_columns(truths, {}, truthful, outputs)
    names = few(filter(None, outputs.labels)) if outputs.labels else f"{outputs.count}, without names"
    raise ConverterError(
        f"{truths.where}: no column ({few(columns)}) is called as an output is ({names}), nor label, class or target"
    )


def _of_columns(truths: Truths, found: dict[str, int], columns: list[str], outputs: Outputs) -> Task:
    """One column a label: those in ``found`` by name, else in order."""
    notes, how = [], "columns matched by name"
    if not found:
        if len(columns) != outputs.count:
            raise ConverterError(f"{truths.where}: {len(columns)} values an image for {outputs.count} outputs")
        found, how = {name: i for i, name in enumerate(columns)}, "columns matched in order"
        pairs = "; ".join(f"{name} is {outputs.name(i)}" for name, i in list(found.items())[:4])
        notes.append(f"no column is called as an output is, so they are matched in order: {pairs}")
    values = np.empty((len(truths.images), len(found)))
    for i, name in enumerate(found):
        for row, written in enumerate(truths.columns[name]):
            value = _value(written)
            if value is None:
                raise ConverterError(
                    f"{truths.where}: {name} of {truths.images[row].name} is {written[:40]!r}; 1, 0, and blank or -1 "
                    "where it is unknown can be read"
                )
            values[row, i] = value
    if unknown := int(np.isnan(values).sum()):
        notes.append(f"{unknown} of {values.size} truths are unknown (blank or -1) and left out")
    unused = [name for name in truths.columns if name not in found]
    if unused and how == "columns matched by name":
        notes.append(f"columns that are no output: {few(unused)}")
    places = tuple(found.values())
    if lacking := [outputs.name(i) for i in sorted(set(range(outputs.count)) - set(places)) if _named(outputs, i)]:
        notes.append(f"outputs without a column, not evaluated: {few(lacking)}")
    names = tuple(outputs.name(i) if outputs.labels else name for name, i in found.items())
    return Task(truths.images, values, places, names, how, tuple(notes))


def _named(outputs: Outputs, index: int) -> bool:
    return not outputs.labels or bool(outputs.labels[index])


def _of_bars(truths: Truths, column: str, outputs: Outputs) -> Task:
    """A column with the names of all labels that hold, between bars."""
    loose = outputs.by_name()
    places = [i for i in range(outputs.count) if _named(outputs, i)]
    values = np.zeros((len(truths.images), outputs.count))
    for row, written in enumerate(truths.columns[column]):
        for name in map(simple, written.split("|")):
            if name in loose:
                values[row, loose[name]] = 1
            elif name not in NOTHING:
                image = truths.images[row].name
                raise ConverterError(
                    f"{truths.where}: {column} of {image} has {name[:40]!r}, which no output is called"
                )
    names = tuple(outputs.name(i) for i in places)
    return Task(truths.images, values[:, places], tuple(places), names, f"labels of {column} matched by name")


def _of_classes(truths: Truths, column: str, outputs: Outputs) -> Task:
    """One class an image, as its name or number."""
    values, images, notes = truths.columns[column], truths.images, []
    if "" in values:
        kept = [i for i, value in enumerate(values) if value]
        notes.append(f"{len(values) - len(kept)} images without a class are left out")
        images, values = [images[i] for i in kept], [values[i] for i in kept]
        if not values:
            raise ConverterError(f"{truths.where}: no image has a class")
    names = truths.names or tuple(sorted(set(values)))
    if outputs.count == 1:
        return _binary(replace(truths, images=images, names=names), values, outputs, tuple(notes))
    folders = truths.kind == "folders"
    match = match_classes(names, outputs, truths.where, folders=folders, said=bool(truths.names) and not folders)
    if strangers := set(values) - set(match.index):
        raise ConverterError(f"{truths.where}: has {few(sorted(strangers))}, none of the {len(names)} classes it names")
    truth = np.array([match.index[value] for value in values])
    every = tuple(outputs.name(i) for i in range(outputs.count))
    written = {i: name for name, i in match.index.items()}
    return Task(images, truth, tuple(range(outputs.count)), every, match.how, (*notes, *match.notes), written)


def _binary(truths: Truths, values: Sequence[str], outputs: Outputs, notes: tuple[str, ...]) -> Task:
    """Two classes for a single logit: which one is it that it speaks of?"""
    names, label = truths.names, simple(outputs.name(0)) if outputs.labels else ""
    if label not in ("no", "false") and all(_value(name) is not None for name in names):
        truth, positive = [_value(value) for value in values], outputs.name(0) if outputs.labels else "1"
        how = "0 and 1 as written"
    else:
        if len(names) != 2:
            raise ConverterError(f"{truths.where}: {len(names)} classes ({few(names)}) for a model of one output")
        named = [name for name in names if simple(name) == label]
        positive = named[0] if named else names[1]
        truth = [float(value == positive) for value in values]
        how = "classes matched by name" if named else "classes matched in order"
        if not named:
            notes = (*notes, f"the output is taken for {positive}, the second in order, and {names[0]} for its absence")
    return Task(truths.images, np.array(truth, np.float64)[:, None], (0,), (positive,), how, notes)


def _exclusive(task: Task, where: str, outputs: Outputs) -> Task:
    """Columns of which one is 1 in every row, or the column of one of two classes, as the classes of a softmax.

    Raises:
        ConverterError: they are not.
    """
    if outputs.count == 2 and task.truth.shape[1] == 1 and not np.isnan(task.truth).any():
        one = task.outputs[0]
        index = np.where(task.truth[:, 0] == 1, one, 1 - one)
        return Task(task.images, index, (0, 1), (outputs.name(0), outputs.name(1)), task.how, task.notes)
    wrong = np.flatnonzero((task.truth == 1).sum(axis=1) != 1)
    if len(wrong):
        holds = int((task.truth[wrong[0]] == 1).sum())
        raise ConverterError(
            f"{where}: {task.images[wrong[0]].name} has {holds} labels, but the network's classes exclude each other "
            "(softmax); if each is a question of its own, say --activation sigmoid"
        )
    index = np.array(task.outputs)[np.argmax(task.truth == 1, axis=1)]
    every = tuple(outputs.name(i) for i in range(outputs.count))
    return Task(task.images, index, tuple(range(outputs.count)), every, task.how, task.notes)


def _value(written: str) -> float | None:
    """1, 0, or NaN where it is unknown; None for anything else."""
    word = written.lower()
    return 1.0 if word in TRUE else 0.0 if word in FALSE else np.nan if word in UNKNOWN else None
