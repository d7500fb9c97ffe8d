"""The command line: ``app.py`` and a file for each verb.  No logic here: what verbs do is in the rooms they call."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # A short process: collecting garbage would cost more than the garbage, most of all while modules are imported.
    gc.disable()
    from converter.cli.app import main as run

    try:
        run()
    finally:
        gc.freeze()  # nor is it looked for on the way out, which takes a tenth of the time
