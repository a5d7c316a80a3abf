"""The command line: plan, run, report, show, search and the other commands."""

# ruff: noqa: F401
# isort: off
# Importing a module adds its commands; the help lists them in the order of these imports.
from curation.cli import first_recipe_commands
from curation.cli import quickstart_command, run_commands, weights_commands, where_command
from curation.cli import inspect_commands, search_command, why_command, sql_command, train_commands
from curation.cli import plugin_commands, status_command, store_commands, gc_commands
from curation.cli import takedown_commands, opt_out_commands, verify_commands
from curation.cli import audit_commands
from curation.cli import schema_command

# isort: on
from curation.cli.app import app, command, main
from curation.cli.examples import add_examples

add_examples(app)

__all__ = ["app", "command", "main"]
