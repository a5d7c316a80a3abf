"""The command line: plan, run, report, show, search and the other commands."""

# isort: off
# The help lists commands in the order of these imports.
from curation.cli import run_commands, inspect_commands, train_commands, plugin_commands
from curation.cli import store_commands, gc_commands, takedown_commands, verify_commands
from curation.cli import audit_commands

# isort: on
from curation.cli.app import app, main

__all__ = [
    "app",
    "audit_commands",
    "gc_commands",
    "inspect_commands",
    "main",
    "plugin_commands",
    "run_commands",
    "store_commands",
    "takedown_commands",
    "train_commands",
    "verify_commands",
]
