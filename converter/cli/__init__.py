"""The command line: ``app.py`` and a file for each verb.  No logic here: what verbs do is in the rooms they call."""

import gc
import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # A short process: collecting garbage would cost more than the garbage, most of all while modules are imported.
    gc.disable()
    signal.signal(signal.SIGINT, _stopped)
    from converter.cli.app import main as run

    try:
        run()
    finally:
        gc.freeze()  # nor is it looked for on the way out, which takes a tenth of the time


def _stopped(number: int, _: object) -> NoReturn:
    """An interrupt while modules are imported: an exception would come out of the middle of one, as whatever error."""
    os.write(2, b"densenet: interrupted\n")
    os._exit(128 + number)
