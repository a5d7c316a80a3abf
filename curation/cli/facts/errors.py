"""What a command prints to standard error when it fails, with --json."""

from __future__ import annotations

from typing import Any

from curation.cli.facts.base import Facts


class ErrorDetail(Facts):
    """One thing that is wrong."""

    where: str | None
    """The key, option, file, table or address that is wrong; null if the message says it."""
    message: str
    """What is wrong."""
    found: Any
    """What is there; null if nothing is, or if the message says it."""
    valid: list[str]
    """What could be there instead; empty if it cannot be listed."""
    fix: str | None
    """What to do about it; null if the message says it."""


class Error(Facts):
    """An error that ends a command."""

    error: str
    """Kind of the error, such as `RecipeError`, `StoreError` or `UsageError` (of the command line)."""
    exit_status: int
    """Exit status of the command."""
    message: str
    """The whole text, as people read it."""
    where: str | None
    """`where` of the first detail."""
    found: Any
    """`found` of the first detail."""
    valid: list[str]
    """`valid` of the first detail."""
    fix: str | None
    """`fix` of the first detail."""
    details: list[ErrorDetail]
    """Everything that is wrong: of a recipe, all its mistakes at once."""
    log: str | None = None
    """The log file of the run that it ended; null if it ended none."""
