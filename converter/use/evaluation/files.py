"""Image files by the paths that lists and tables have for them, which seldom begin where the images lie now."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath

from converter.core import bounds
from converter.use.images import is_image, is_volume


class Finder:
    """Files below a folder by the paths somebody wrote.

    A path is looked for below the folder, below the folder above it (CheXpert's begin with the data set's own
    name), then without its first parts.  A bare name is looked for in all subfolders (NIH's images lie in twelve)
    and may lack its ending (ISIC's tables do).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """Images below the folder, by name and by name without ending."""
        result: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.rglob("*")):
            if is_image(path) or is_volume(path):
                result[path.name].append(path)
                result[path.name.removesuffix(".gz").rpartition(".")[0]].append(path)
        return dict(result)

    def find(self, written: str) -> Path | str:
        """The file, or why there is none."""
        if not written or "\0" in written:
            return "no path"
        parts = PurePosixPath(written.replace("\\", "/")).parts
        if len(parts) > bounds.PATH_PARTS:
            return f"a path of {len(parts)} parts"
        try:
            for base in (self.folder, self.folder.resolve().parent):
                if (base / written).is_file():
                    return base / written
            for start in range(len(parts)):
                if (path := self.folder.joinpath(*parts[start:])).is_file() and not Path(*parts[start:]).is_absolute():
                    return path
        except OSError as error:  # a name too long
            return error.strerror or "no such file"
        found = self.by_name.get(parts[0], []) if len(parts) == 1 else []
        if len(found) > 1:
            return f"{len(found)} files below {self.folder} are called so"
        return found[0] if found else "no such file"
