"""densenet doctor."""

from converter.cli import show
from converter.cli.options import Json

TITLES = {"engine": "Engines", "exporter": "Exporters", "files": "Other files"}


def command(as_json: Json = False) -> None:
    """Say which engines and exporters are installed, at which version, and what to install for the others."""
    from converter.engines.installed import parts, report

    if as_json:
        show.print_json(report())
        return
    said = report()
    show.say(f"densenet-converter {said['tool']}, Python {said['python']}, {said['system']}")
    found = list(parts())
    for kind, title in TITLES.items():
        rows = [
            [
                "ok" if part.ready else "--",
                part.name,
                part.does,
                ", ".join(f"{name} {version or 'missing'}" for name, version in part.packages.items()),
                part.install or part.note,
            ]
            for part in found
            if part.kind == kind
        ]
        show.table(title, ["", "name", "for", "packages", "to install"], rows)
