"""Results of all shards of a run, joined: the same, byte for byte, as those of one run over all images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError, UnreadableFile
from converter.use.evaluation.exam import Exam, marked
from converter.use.evaluation.findings import check_metrics
from converter.use.evaluation.report import REPORTS
from converter.use.evaluation.result import Evaluation
from converter.use.folder import Classified, Targets
from converter.use.journal import Header, read_journal
from converter.use.results import Told, heads_of, results
from converter.use.rows import Rows
from converter.use.share import Share, shares_of


def merge(target: str | Path, outputs: Sequence[str | Path] = (), *, force: bool = False) -> Classified | Evaluation:
    """Join the results of all shards of ``predict`` or ``evaluate``, which stand beside what they are of.

    Args:
        target: the table, array or report that was asked for with each ``--shard``.
        outputs: what to write instead of it: tables and arrays, or reports.
        force: whether files that this tool did not write may be replaced.

    Returns:
        what the run over all images would have given; of ``predict`` without a ranking.

    Raises:
        ConverterError: a shard is missing, is not done, or is of another run; or a file cannot be written.

    Examples:
        >>> from converter import merge, predict
        >>> from converter.use.share import Share
        >>> for shard in ("1/2", "2/2"):
        ...     done = predict("digits.onnx", "images", output="digits.csv", share=Share.parse(shard))
        >>> merge("digits.csv").answered
        100
    """
    paths = shares_of(Path(target))
    header = _checked(paths)
    written = [Path(output) for output in outputs] or [Path(target)]
    joined = _evaluated if header["verb"] == "evaluate" else _predicted
    return joined(paths, header, written, force)


def _checked(paths: Sequence[Path]) -> Header:
    """What all shards say.

    Raises:
        ConverterError: one is not done, lacks blocks, or says something else than the first.
    """
    first: Mapping[str, Any] = {}
    for number, path in enumerate(paths, 1):
        with read_journal(path) as kept:
            said, known, closed = dict(kept.header), set(kept.known), kept.closed
        if said.pop("share", None) != [number, len(paths)] or said.get("verb") not in ("predict", "evaluate"):
            raise UnreadableFile(f"{path}: not what its name says")
        if not closed:
            raise ConverterError(f"{path}: not done; run its command again, which goes on where it was stopped")
        if first and said != first:
            other = next((key for key in (*first, *said) if said.get(key) != first.get(key)), "")
            raise ConverterError(f"{path}: of another run than {paths[0]} ({DIFFERS.get(other, other)})")
        first = first or said
        blocks = said.get("blocks")
        if not isinstance(blocks, int) or known != set(Share(number, len(paths)).of(range(blocks))):
            raise UnreadableFile(f"{path}: damaged (it lacks blocks); remove it, and run its command again")
    return first


DIFFERS = {
    "rows": "another network, or its images are prepared in another way",
    "set": "other images",
    "version": "another version of this tool",
    "blocks": "other images",
    "exam": "other truths",
}
"""What it means that shards differ in what they say."""


def _rows(paths: Sequence[Path]) -> Iterator[Rows]:
    """All rows, in the order of the images."""
    for path in paths:
        with read_journal(path) as kept:
            for block in sorted(kept.known):
                yield kept.rows(block)


def _predicted(paths: Sequence[Path], header: Header, outputs: Sequence[Path], force: bool) -> Classified:
    tables = [path for path in outputs if path.suffix != ".npy"]
    arrays = [path for path in outputs if path.suffix == ".npy"]
    if len(tables) > 1 or len(arrays) > 1:
        raise ConverterError(f"{', '.join(map(str, outputs))}: one table and one .npy can be written at a time")
    targets = Targets(next(iter(tables), None), next(iter(arrays), None), force=force)
    if targets.features and not header.get("features"):
        raise ConverterError(f"{targets.features}: the shards have no features; they were not asked for")
    heads, told, broken = heads_of(header, paths[0]), Told(), [str(line) for line in header.get("broken", ())]
    with results(heads, targets.table, targets.features, force=force) as written:
        for rows in _rows(paths):
            told.add(rows)
            written.add(rows)
    notes = [*(str(note) for note in header.get("notes", ())), *told.notes()]
    return Classified(told.images, [*broken, *told.failed], notes=notes, lost=len(broken))


def _evaluated(paths: Sequence[Path], header: Header, outputs: Sequence[Path], force: bool) -> Evaluation:
    REPORTS.check(outputs, force=force)
    try:
        exam = Exam.read(header["exam"])
    except (LookupError, TypeError, ValueError) as error:
        raise UnreadableFile(f"{paths[0]}: damaged ({error})") from error
    if not exam.one_class_each:
        check_metrics()
    found = marked(exam, _rows(paths)).evaluation()
    REPORTS.write(outputs, found, force=force)
    return found
