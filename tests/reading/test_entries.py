"""Values beside weights, however deep and in whatever form."""

from __future__ import annotations

import time

import pytest

from converter.core import bounds
from converter.core.checkpoint import Record, Unordered
from converter.reading.class_names import class_names
from converter.reading.entries import entries, listed, number


def items(*values: object) -> Record:
    return Record("fastcore.foundation.L", state={"items": list(values)})


def test_fastais_vocabulary_is_found_where_a_learner_keeps_it() -> None:
    vocab = Record(
        "fastai.data.transforms.CategoryMap", state={"items": items("cat", "dog"), "o2i": {"cat": 0, "dog": 1}}
    )
    fs = items(Record("Getter", state={}), Record("Categorize", state={"vocab": vocab}))
    lists = items(
        Record("TfmdLists", state={}), Record("TfmdLists", state={"tfms": Record("Pipeline", state={"fs": fs})})
    )
    dataset = Record("Datasets", state={"tls": lists})
    learner = Record(
        "Learner", state={"dls": Record("Dls", state={"loaders": [Record("Dl", state={"dataset": dataset})]})}
    )
    assert class_names(entries(learner), 2) == (["cat", "dog"], "")


@pytest.mark.parametrize("value", [Unordered(["a"]), "ab", None, {"a": 0}, Record("x", state=3), 5])
def test_what_is_no_list_in_an_order(value: object) -> None:
    assert listed(value) is None


def test_numbers_are_no_truth_values() -> None:
    assert (number(True), number(2), number(0.5), number("2")) == (None, 2, 0.5, None)


def test_a_tree_without_end_ends() -> None:
    loop: dict[str, object] = {}
    loop["classes"] = loop
    many = [str(i) for i in range(60_000)]
    start = time.process_time()
    assert len(list(entries(loop))) == 1
    assert len(list(entries([{f"a{i}": i for i in range(2 * bounds.ENTRIES)}]))) < bounds.ENTRIES
    assert class_names(entries({f"class{i}": many for i in range(50_000)}), 5) == ([], "")
    assert time.process_time() - start < 5
