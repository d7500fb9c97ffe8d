"""The command line: ``app.py`` and a file for each verb.  No logic here: what verbs do is in the rooms they call."""

from converter.cli.app import main

__all__ = ["main"]
