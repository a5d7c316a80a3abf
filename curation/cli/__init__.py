"""The command line: plan, run, report, show, search and the other commands."""

# isort: off
# The help lists commands in the order of these imports.
from curation.cli import run_commands, inspect_commands, train_commands, plugin_commands
from curation.cli import store_commands, gc_commands, verify_commands, opt_out_commands
from curation.cli import audit_commands

# isort: on
from curation.cli.app import app, main

__all__ = [
    "app",
    "audit_commands",
    "gc_commands",
    "inspect_commands",
    "main",
    "opt_out_commands",
    "plugin_commands",
    "run_commands",
    "store_commands",
    "train_commands",
    "verify_commands",
]
