"""The command line: plan, run, report, show, search and the other commands."""

from curation.cli import auditing, curating, extending, looking, training
from curation.cli.app import app, main

__all__ = ["app", "auditing", "curating", "extending", "looking", "main", "training"]
