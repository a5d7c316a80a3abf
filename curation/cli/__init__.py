"""The command line: plan, calibrate, run, report; show, path, search, diff."""

from curation.cli import curating, looking
from curation.cli.app import app, main

__all__ = ["app", "curating", "looking", "main"]
