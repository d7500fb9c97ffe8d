"""Files of other runtimes in a package."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from converter.core.errors import CannotExpress
from converter.core.progress import Progress
from converter.engines.runtime import Job, Runtime
from converter.parity.verdict import Verification
from converter.publish.card import RuntimeFile


def write_programs(
    runtimes: Iterable[Runtime], job: Job, folder: Path, progress: Progress
) -> tuple[dict[Runtime, Path], dict[str, str]]:
    """Write a file for each; returns where they are, and why those are missing that a converter cannot make."""
    made: dict[Runtime, Path] = {}
    lost: dict[str, str] = {}
    for runtime in runtimes:
        progress(f"writing for {runtime.name}")
        path = folder / runtime.published
        path.parent.mkdir(exist_ok=True)
        try:
            runtime.check_takes(job.model)
            runtime.save(job, path)
        except CannotExpress as error:
            lost[runtime.published] = str(error)
            for name in runtime.files():
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()  # nothing is in it: converters write at the end
        else:
            made[runtime] = path
    return made, lost


def program_files(made: Mapping[Runtime, Path], job: Job, folder: Path, proof: Verification) -> list[RuntimeFile]:
    """What the card says of them."""
    result = []
    for runtime, path in made.items():
        size = sum((folder / name).stat().st_size for name in runtime.files())
        error = max(c.error for key, found in proof.results.items() if key.endswith(f", {path.name}") for c in found)
        taken = job.shape if runtime.fixed else ()
        result.append(RuntimeFile(runtime.published, runtime.name, runtime.key, size, error, taken, runtime.elsewhere))
    return result
