"""How help looks: plain text, options under what they are about.

Drawing it with rich takes longer than a conversion.
"""

import re
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

NEXT: Mapping[str, str] = {
    "inspect": """densenet inspect checkpoint.pth --explain
Next: densenet convert checkpoint.pth model.safetensors""",
    "convert": """densenet convert checkpoint.pth model.safetensors
densenet convert model.safetensors torchvision.pth --to torchvision
Next: densenet verify checkpoint.pth model.safetensors""",
    "export": """densenet export checkpoint.pth model.onnx
densenet export a.pth small.onnx --precision int8 --calibration images/
Next: densenet verify checkpoint.pth model.onnx""",
    "verify": """densenet verify checkpoint.pth model.onnx --report parity.html
Next: densenet package checkpoint.pth repository/""",
    "diff": """densenet diff old.t7 new.safetensors --report diff.html
Next: densenet verify old.t7 new.safetensors, where the logits decide""",
    "predict": """densenet predict checkpoint.pth images/ --output answers.csv
Next: densenet evaluate checkpoint.pth images/, a subfolder a class""",
    "evaluate": """densenet evaluate checkpoint.pth images/ --report report.html
Next: densenet package checkpoint.pth repository/ --evaluate images/""",
    "merge": """densenet merge answers.csv
Next: densenet evaluate checkpoint.pth images/, a subfolder a class""",
    "package": """densenet package checkpoint.pth repository/ --calibration images/
Next: densenet push repository/ OWNER/NAME""",
    "push": """densenet push repository/ OWNER/NAME --dry-run
Next: densenet verify OWNER/NAME""",
    "list": """densenet list
Next: densenet inspect densenet121_3rdparty_in1k""",
    "doctor": """densenet doctor --json
Next: densenet export checkpoint.pth model.xml, for OpenVINO""",
    "demo": """densenet demo
Next: densenet inspect checkpoint.pth, one of your own""",
}
"""What a verb's help ends with: a command to try, and the one that comes next."""


def ending(verb: str) -> str:
    """The last lines of a verb's help, which are not wrapped."""
    first, *others = NEXT[verb].splitlines()
    return "\n".join(("\b", f"Try:  {first}", *(f"      {line}" if "Next" not in line else line for line in others)))


CLUSTER = re.compile(r"auto|local|ray://.+|(\[[0-9a-f:]+\]|[\w.-]+):\d+")
"""Addresses of a Ray cluster."""


class GroupedCommand(TyperCommand):
    """A verb whose help lists options that name a panel under its name, behind its own.

    Its ``--ray`` may stand without an address.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        for place, (word, following) in enumerate(zip(args, [*args[1:], ""])):
            if word == "--":
                break
            if word == "--ray" and not CLUSTER.fullmatch(following):
                args[place] = "--ray="
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the lists of arguments and options."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, records in panels.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)
