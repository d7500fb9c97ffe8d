"""The command line: ``app.py`` and a file for each verb.  No logic here: what verbs do is in the rooms they call."""

import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; errors become one line on stderr and an exit status."""
    # A short process: collecting garbage would cost more than the garbage, most of all while modules are imported.
    gc.disable()
    if sys.platform != "linux" or os.uname().machine == "x86_64":  # elsewhere PyTorch computes with that library, too
        # Of numpy's matrix products: more threads would wait for the engines' and these for them, numpy would take
        # longer to import, and what is rounded to 8 bits would depend on how many there are.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
