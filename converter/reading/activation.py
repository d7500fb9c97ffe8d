"""What makes probabilities of a network's logits, where no module or graph shows it: what the task or the loss says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from converter.core.checkpoint import Record
from converter.core.model import usual_activation
from converter.formats.torch.pickle import Global
from converter.reading.candidate import Candidate
from converter.reading.entries import Entry

PROBLEMS = {"multi_label_classification": "sigmoid", "single_label_classification": "softmax", "regression": "none"}
"""transformers' ``problem_type`` (transformers/configuration_utils.py)."""

# Patterns are text, which re compiles where a file has something to be held against them.
LOSS = (
    r"(?i)_?((train|training|main|base|cls|class|classification)_?)?(loss|criterion|criteria|objective)"
    r"(_?(fn|func|function|name|type|mode|cls|class))?"
)
"""What a network's own loss is called in hyper-parameters and in modules; others are for distillation and the like."""
LOSSES = (
    ("sigmoid", r"(?i)bce|binary_?(focal_?)?cross_?entropy|multi_?label|sigmoid"),
    ("softmax", r"(?i)cross_?entropy|^(ce|nll|xent)(_?loss)?(flat)?$|nll_?loss"),
    ("none", r"(?i)^(mse|l1|smooth_?l1|mae|huber|rmse|mean_(squared|absolute)_error)(_?loss)?(flat)?$"),
)
"""What the loss of a name is computed from: probabilities of each class by itself, of one of all, or numbers.
torch.nn.modules.loss, timm.loss, fastai.losses, keras.losses."""
TASK = r"(?i)(\w+_)?(task|problem|target|label|classification)(_?(type|mode|kind|name))?|mode"
MULTI = r"(?i)(^|[\W_])multi[\W_]?(label|hot)"
"""A setting that says what kind of task it is, and its value where an image has several labels."""
AUROC = r"(?i)(.*[\W_])?(auroc|auc_?roc|roc_?auc|m?auc)([\W_].*)?"
"""A figure by which findings of X-rays are judged, each by itself."""
POS_WEIGHT = (".pos_weight", "/pos_weight")
"""A buffer that of torch's losses only those of BCE have."""
BELOW = re.compile(r"\d{1,9}")
NUMBERED = r"(?P<above>(.*\.)?(?P<name>(?=\w*[A-Za-z])\w+))\.(?P<number>\d{1,9})\.\w+"
"""A tensor of a module of a Sequential that has a name."""

FINDINGS = frozenset(
    """atelectasis cardiomegaly consolidation edema effusion emphysema enlarged_cardiomediastinum fibrosis fracture
    hernia infiltration lung_lesion lung_opacity mass no_finding nodule pleural_effusion pleural_other
    pleural_thickening pneumonia pneumothorax support_devices""".split()
)
"""What NIH's ChestX-ray14 and CheXpert name; an image has several."""
MANY = 4


class Judged(NamedTuple):
    """What makes probabilities, empty where nobody says; and a note: whose word it is, or what speaks against it."""

    activation: str = ""
    note: str = ""


def activation_said(found: Iterable[Entry], keys: Collection[str], classes: int) -> Judged:
    """What the task's kind or the loss in a file says.

    Args:
        found: the file's values.
        keys: names of its tensors.
        classes: how many outputs the network has.
    """
    said: dict[str, str] = {}
    for place, name, value in found:
        if name == "problem_type" and isinstance(value, str) and value in PROBLEMS:
            return _as_said(PROBLEMS[value], f"{place} is {value}", classes)
        if name in ("multi_label", "multilabel") and value is True:
            said.setdefault("sigmoid", f"{place} is true")
        elif isinstance(value, str) and re.fullmatch(TASK, name) and re.search(MULTI, value):
            said.setdefault("sigmoid", f"{place} is {value:.40}")
        elif re.fullmatch(LOSS, name) and (loss := _loss(value)):
            said.setdefault(loss, f"{place} is {_called(value)}")
    weight = next((key for key in keys if f".{key}".endswith(POS_WEIGHT)), "")
    if weight:
        said.setdefault("sigmoid", f"{weight} belongs to a binary cross entropy")
    if len(said) > 1:
        return Judged("", f"{' and '.join(said.values())}: {_assumed(classes)}")
    return _as_said(*next(iter(said.items())), classes) if said else Judged()


def hint(candidate: Candidate, labels: Sequence[str], classes: int, found: Iterable[Entry] = ()) -> str:
    """A note where names or figures alone are known and speak for something behind the classifier; else nothing."""
    if classes > 2:  # of two it is how any classifier is judged
        for said in found:
            if re.fullmatch(AUROC, said.name) and isinstance(said.value, int | float | list | tuple | dict):
                return f"{said.place} is a figure of classes judged each by itself: {_assumed(classes)}"
    group = candidate.group
    names = [re.sub(r"\W+|_+", "_", name).lower() for name in labels]
    findings = [label for label, name in zip(labels, names) if name in FINDINGS]
    if len(findings) >= MANY and 2 * len(findings) >= classes:
        shown = ", ".join(findings[:3])
        return f"several of its classes can be true of one image ({shown} ...): {_assumed(classes)}"
    if group.classes or candidate.graph or "classifier.weight" not in candidate.used:
        return ""
    key = candidate.used["classifier.weight"].keys[0]
    numbered = key.rpartition(".")[0][-1:].isdigit()
    place = re.fullmatch(NUMBERED, key) if numbered else None
    if place is None or place["name"] in ("module", "model", "network", "net"):
        return ""
    above, count = place["above"], int(place["number"])
    behind = [n for n in group.modules if n.startswith(f"{above}.") and BELOW.fullmatch(n, len(above) + 1)]
    last = max((name for name in behind), key=lambda name: int(name[len(above) + 1 :]), default="")
    if not group.modules & {above, f"{above}.{count}"}:
        why = f"{above} is a Sequential, of whose modules those without tensors are not in the file"
    elif last and int(last[len(above) + 1 :]) > count:
        why = f"{last} behind the classifier has no tensors, and what it computes is not in the file (a Sigmoid, say)"
    else:
        return ""
    return f"{why}: {_assumed(classes)}"


def _as_said(activation: str, why: str, classes: int) -> Judged:
    if activation == "softmax" and classes == 1:  # of one output it says nothing
        return Judged("", f"{why}, of a single output: {_assumed(classes)}")
    if activation == usual_activation(classes):
        return Judged(activation)
    what = "outputs are taken as they are" if activation == "none" else f"{activation} makes probabilities"
    return Judged(activation, f"{why}, so {what}; --activation changes it")


def _assumed(classes: int) -> str:
    usual = usual_activation(classes)
    other = "none" if usual == "sigmoid" else "sigmoid"
    return f"{usual} is taken to make probabilities; --activation {other} changes it"


def _called(value: Any) -> str:
    if isinstance(value, Record):
        return value.cls.rpartition(".")[2]
    return value.name if isinstance(value, Global) else f"{value:.40}"


def _loss(value: Any) -> str:
    if not isinstance(value, str | Record | Global):
        return ""
    name = _called(value)
    return next((activation for activation, pattern in LOSSES if re.search(pattern, name)), "")
