"""How a command ends: errors as text or as JSON, and exit statuses."""

from __future__ import annotations

import errno
import json
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any, cast

import typer

from curation.cli.signals import Terminated
from curation.errors import CurationError, Detail, RecipeError, error_json, text_of
from curation.logs import log_json_error, log_of
from curation.terminal import Terminal, ascii_json, one_line, styled, visible

EXIT_STATUSES = {
    "0": ("it went well", ""),
    "1": (
        "any other error: the store, a source that does not answer, a damaged file, another run with "
        "`--no-wait`, a full disk, a Spark that does not start, an unexpected error (with a trace). "
        "`verify-store` and `forget --prove` also end with it if they found something",
        "read the message; running again resumes",
    ),
    "2": (
        "the recipe, the cluster file or the command line is not valid, or asks for something that "
        "cannot be done; before any work",
        "mend it: the same command would fail again",
    ),
    "3": (
        "more rows failed than the recipe allows (`fetch.fail_over`); the tables are kept",
        "look at the reasons; run again, with `--retry` if need be",
    ),
    "4": (
        "the dataset is not as the recipe expects (`expect`); it is kept and is not the latest",
        "look at the dataset or change the expectation",
    ),
    "128 + n": (
        "a signal ended the process, as 137 after `kill -9` or for want of memory",
        "run again: what was finished is reused",
    ),
}
"""What each exit status of `curation` and of the jobs means, and what to do."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: that of the signal."""

CommandLineError = cast("type[Any]", typer.BadParameter.__mro__[2])
"""The base of all errors of the command line itself, such as an unknown option."""


def wants_json() -> bool:
    """Whether the command line asks for JSON, so that an error is JSON too."""
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def refuse_empty(words: Sequence[str]) -> None:
    """Refuse a command line with an empty value, as a shell makes of a variable that is not set.

    Otherwise `--run "$RUN"` would mean the latest run.

    Raises:
        RecipeError: a value is empty.
    """
    for before, word in pairwise(("", *words)):
        if word == "" or re.fullmatch(r"--[a-z0-9-]+=", word):
            option = word.removesuffix("=") or (before if before.startswith("-") else "")
            fix = "Leave it out, or set the variable from which the shell took it"
            raise RecipeError(Detail("the command line has an empty value", option, "", fix=fix))


def refuse_options_as_values(parameters: Sequence[Any], words: Sequence[str]) -> None:
    """Refuse an option as the value of another one: `--store $STORE --json` without a STORE.

    Args:
        parameters: those of the command.
        words: what follows the command.

    Raises:
        RecipeError: an option stands where a value should.
    """
    options = [each for each in parameters if each.param_type_name == "option"]
    names = {name for each in options for name in (*each.opts, *each.secondary_opts)}
    with_value = {name for each in options if not each.is_flag for name in each.opts}
    for option, value in pairwise(takewhile(lambda word: word != "--", words)):
        if option in with_value and (value in names or re.match("--[a-z]", value)):
            message = f"{option} has no value: an option follows it"
            fix = f"Set the variable from which the shell took it, or write {option}={value}"
            raise RecipeError(Detail(message, option, value, fix=fix))


MACHINE_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EFBIG, errno.ESTALE),
}
"""Errors of the operating system that a user can mend."""
MACHINE_FIX = "Mend that, or choose another place, and run again: what is finished is kept."


def fields_of(error: Exception) -> dict[str, Any] | None:
    """Return the fields of an error that a user can mend; None of one that nobody foresaw."""
    if isinstance(error, CurationError):
        return error.to_json()
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        place = repr(error.filename) if error.filename else ""
        detail = Detail(str(error.strerror), place, fix=MACHINE_FIX)
        return error_json(type(error).__name__, CurationError.exit_status, str(detail), (detail,))
    return None


def print_error(error: Mapping[str, Any], log: str | None = None) -> None:
    """Print an error to standard error: as the other logs are, or as one line of JSON with --json.

    Args:
        error: of `CurationError.to_json`.
        log: the log file of the run that it ended.
    """
    error = {**error, "log": log}
    if log_json_error(error):
        return
    console = Terminal(stderr=True)
    if wants_json():
        console.print(styled(ascii_json(json.dumps(error))), soft_wrap=True)
    else:
        console.print(styled(("error:", "bold red"), f" {error['message']}"))
        if log is not None:
            console.print(styled(f"log    {log}"), soft_wrap=True)


def interruption() -> dict[str, Any]:
    """Return the fields of the error that Ctrl-C is."""
    detail = Detail("Interrupted", fix="Run again: what is finished is kept")
    return error_json(KeyboardInterrupt.__name__, INTERRUPTED, str(detail), (detail,))


def termination(error: Terminated) -> dict[str, Any]:
    """Return the fields of an error for the signal that ended the process."""
    detail = Detail(f"Asked to end ({error})", fix="Run again: what is finished is kept")
    return error_json(type(error).__name__, error.status, str(detail), (detail,))


def end_with_usage_error(error: Any) -> int:
    """Print an error of the command line itself; return its exit status."""
    # Choices of an argument that is missing stand in lines of their own.
    message = re.sub(r"\n\t?", " ", error.format_message().replace("Value error, ", ""))
    text = one_line(message) + _right_place(error)
    fields = error_json("UsageError", int(error.exit_code), text, (_usage_detail(error, text),))
    if wants_json():
        print_error(fields)
    elif not log_json_error(fields):
        # It imports a parser of Markdown.
        from typer.rich_utils import rich_format_error

        error.format_message = lambda: text
        rich_format_error(error)
    return int(error.exit_code)


def _right_place(error: Any) -> str:
    """Return where an option stands that is one of all commands; empty for others."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or context.parent is None or option is None:
        return ""
    if not any(option in each.opts for each in context.find_root().command.params):
        return ""
    return f". It stands before the command: curation {option} … {context.info_name}"


def end_with_bug(error: Exception) -> int:
    """Print an error that nobody foresaw, with its trace, and as JSON; return the exit status."""
    sys.stderr.write(visible("".join(traceback.format_exception(error))))
    fix = "Running again resumes. Report it with the trace"
    detail = Detail(f"{type(error).__name__}: {text_of(error)}", fix=fix)
    print_error(error_json(type(error).__name__, 1, detail.message, (detail,)), log_of(error))
    return 1


def _usage_detail(error: Any, text: str) -> Detail:
    """Return what is wrong with a command line, with the option and the names that are valid."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is not None:
        command = getattr(context, "command", None)
        known = {name for each in getattr(command, "params", ()) for name in each.opts}
        # An option without its value is found before its command is known.
        usage = " ".join(context.get_usage().split()).removeprefix("Usage: ") if context else ""
        start = f"The command is {usage}; " if usage else ""
        fix = f"{start}curation COMMAND --help lists options"
        return Detail(text, option, option, sorted(known), fix)
    parameter = getattr(error, "param", None)
    if parameter is not None:
        choices = re.findall(r"'([^']+)'", text.partition(" one of ")[2])
        choices = choices or re.findall(r"[\w.-]+", text.partition(" Choose from: ")[2])
        name = next(iter(getattr(parameter, "opts", ())), parameter.name)
        return Detail(text, name, valid=choices, fix="curation COMMAND --help describes it")
    commands = list(getattr(getattr(context, "command", None), "commands", {}))
    unknown = re.search(r"command '([^']+)'", text)
    return Detail(text, found=unknown[1] if unknown else None, valid=commands if unknown else [])
