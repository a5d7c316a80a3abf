"""The command line: plan, calibrate, run, report; show, path, search, diff; audit; train-filter."""

from curation.cli.app import app, main

__all__ = ["app", "auditing", "curating", "looking", "main", "training"]
