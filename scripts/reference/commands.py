"""The page of every command with its arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from curation.cli import app
from curation.cli.errors import EXIT_STATUSES
from curation.cli.examples import EXAMPLES
from scripts.reference.markdown import GENERATED, code, codes, heading, page, table


def commands_page() -> str:
    """Return the page."""
    lead = (
        "With `--json` a command prints facts as [JSON](json.md), and errors too. `curation "
        "--install-completion` makes your shell complete commands, options, stages, tables, runs, "
        "versions, tags and clusters."
    )
    statuses = table(
        ("status", "of `curation` and of the jobs", "what to do"),
        ([status, *texts] for status, texts in EXIT_STATUSES.items()),
    )
    return page(
        "Commands",
        GENERATED,
        lead,
        heading(2, "Exit statuses", "exit-statuses"),
        statuses,
        *_group(app, "curation"),
    )


def _group(group: typer.Typer, name: str) -> Iterator[str]:
    """Yield a section for a group of commands and for each command within it."""
    yield from _section(name, group.info.help or "", group.registered_callback)
    for command in group.registered_commands:
        assert command.callback is not None
        command_name = command.name or command.callback.__name__.replace("_", "-")
        yield from _section(f"{name} {command_name}", command.help or "", command)
        if command_name in EXAMPLES:
            yield f"```sh\n{EXAMPLES[command_name]}\n```"
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _group(inner.typer_instance, f"{name} {inner.name}")


def _section(name: str, text: str, info: Any) -> Iterator[str]:
    function = info.callback if info else None
    yield heading(2, code(name), name.replace(" ", "-"))
    yield text or inspect.getdoc(function) or ""
    rows = list(_parameters(function)) if function else []
    rows += _of_completion() if name == "curation" else []
    yield table(("argument or option", "value", "default", "help"), rows) if rows else ""


def _of_completion() -> Iterator[list[str]]:
    """Yield the options that typer adds to the top command."""
    for parameter in typer.main.get_command(app).params:
        if parameter.name in ("install_completion", "show_completion"):
            yield [codes(parameter.opts), "", "", getattr(parameter, "help", "")]


def _parameters(function: Callable[..., Any]) -> Iterator[list[str]]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] is typer.Context:
            continue
        annotation, info = get_args(hints[name])[:2]
        # Within Annotated, the first name of an option is what else would be its default.
        option = isinstance(info, OptionInfo)
        given = [info.default, *(info.param_decls or ())]
        names = (
            [n for n in given if isinstance(n, str)] if option else [info.metavar or name.upper()]
        )
        required = parameter.default is parameter.empty
        default = "" if parameter.default in (None, False) else code(parameter.default)
        text = " ".join((info.help or "").split())
        yield [codes(names), _value(annotation), "required" if required else default, text]


def _value(annotation: Any) -> str:
    """Return what kind of value a parameter takes; nothing for a flag."""
    parts = {getattr(part, "__name__", "") for part in (annotation, *get_args(annotation))}
    parts |= {getattr(p, "__name__", "") for part in get_args(annotation) for p in get_args(part)}
    kinds = {"int": "integer", "Path": "path", "str": "text"}
    kind_of_value = next((kind for name, kind in kinds.items() if name in parts), "")
    return f"{kind_of_value}, repeatable" if "list" in parts else kind_of_value
