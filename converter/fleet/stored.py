"""A job whose source or result is in object storage: copied here, done as ever, and its result copied there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.core.errors import ConverterError
from converter.core.files import scratch
from converter.fetch.storage import fetched, fetched_if_there, put, stored
from converter.fleet.outcome import DONE, Outcome
from converter.fleet.work import Job, refused

VERBS = ("inspect", "convert", "export")


def do_stored(job: Job, do: Callable[[Job], Outcome]) -> Outcome:
    """Do it in a folder of this machine; what is told names the places in storage.

    Results are copied one after the other, the file that is the result last: it is there when all of it is.
    """
    source, target = stored(job.source.address), stored(job.target or "")
    try:
        if job.verb not in VERBS:
            raise ConverterError(f"{job.verb} takes no addresses in storage; copy or mount what is there")
        with scratch() as folder:
            here = Path(fetched(source, folder / "in")) if source else Path(str(job.source.address))
            there = folder / "out" / Path(target).name if target else job.target
            if target:
                fetched_if_there(target, folder / "out")
            done = do(replace(job, source=replace(job.source, address=str(here)), target=there))
            if target and done.status == DONE:
                made = sorted((folder / "out").iterdir(), key=lambda path: path == there)
                for path in made:
                    put(path, f"{target.rpartition('/')[0]}/{path.name}")
            return _named(done, {str(here): source or str(here), str(there): target or str(there)})
    except ConverterError as error:
        return refused(job, error)


def _named(outcome: Outcome, names: Mapping[str, str]) -> Outcome:
    """The same with places called otherwise."""

    def called(value: Any) -> Any:
        text = json.dumps(value)
        for old, new in names.items():
            text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
        return json.loads(text)

    return replace(
        outcome, result=called(dict(outcome.result)), why=called(outcome.why), notes=tuple(called(outcome.notes))
    )
