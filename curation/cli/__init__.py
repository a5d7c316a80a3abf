"""The command line: plan, run, report, show, search and the other commands."""

# isort: off
# The help lists commands in the order of these imports.
from curation.cli import first_recipe_commands
from curation.cli import run_commands, weights_commands, inspect_commands, train_commands
from curation.cli import plugin_commands, status_command, store_commands, gc_commands
from curation.cli import takedown_commands, opt_out_commands, verify_commands
from curation.cli import audit_commands

# isort: on
from curation.cli.app import app, main

__all__ = [
    "app",
    "audit_commands",
    "first_recipe_commands",
    "gc_commands",
    "inspect_commands",
    "main",
    "opt_out_commands",
    "plugin_commands",
    "run_commands",
    "status_command",
    "store_commands",
    "takedown_commands",
    "train_commands",
    "verify_commands",
    "weights_commands",
]
