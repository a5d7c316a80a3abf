"""The page of what commands print with --json, and of errors as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getdoc
from typing import Any, get_args, get_origin

from curation.cli.facts import ERROR, FACTS, WITHOUT_FACTS, schema_of
from curation.cli.facts.base import Facts
from scripts.reference.markdown import GENERATED, code, codes, heading, page, table

LEAD = (
    "With `--json` a command prints one JSON value to standard output and nothing else there. What is "
    "null or empty is there too, so each object has all of its fields. `curation schema COMMAND` "
    "prints the JSON schema (draft 2020-12), as `curation schema runs`; a test compares what every "
    "command prints with it. Text is ASCII: other characters are escaped."
)
ERRORS = (
    "When a command with `--json` fails, the last line of standard error is one JSON object, and the "
    "[exit status](commands.md#exit-statuses) says what kind of error it is. With `--log-format json` "
    "the last log record has the same fields. `curation schema error` prints their schema."
)


def json_page() -> str:
    """Return the page."""
    commands = [
        [code(f"curation {name}"), " or ".join(_linked(part) for part in _parts(entry))]
        for name, entry in FACTS.items()
    ]
    none = [[code(f"curation {name}"), why] for name, why in WITHOUT_FACTS.items()]
    return page(
        "JSON",
        GENERATED,
        LEAD,
        table(("command", "prints"), commands + none),
        heading(2, "Errors", "errors"),
        ERRORS,
        *_section(ERROR, 3),
        *(block for model in _all_models() for block in _section(model, 2)),
    )


def _parts(entry: Any) -> list[Any]:
    """Return the alternatives of an entry of FACTS."""
    is_union = get_origin(entry) not in (None, list)
    return list(get_args(entry)) if is_union else [entry]


def _linked(entry: Any) -> str:
    if get_origin(entry) is list:
        return f"a list of {_linked(get_args(entry)[0])}"
    if get_origin(entry) is dict:
        return "objects"
    return f"[{entry.__name__}](#{_anchor(entry.__name__)})"


def _anchor(name: str) -> str:
    return f"json-{name.lower()}"


def _all_models() -> list[type[Facts]]:
    """Return the models of all commands, each before those of its fields."""
    models: dict[type[Facts], None] = {}
    for entry in FACTS.values():
        models.update(dict.fromkeys(_models(entry)))
    return list(models)


def _models(annotation: Any) -> Iterator[type[Facts]]:
    if isinstance(annotation, type) and issubclass(annotation, Facts):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for part in get_args(annotation):
        yield from _models(part)


def _section(model: type[Facts], level: int) -> Iterator[str]:
    yield heading(level, model.__name__, _anchor(model.__name__))
    yield getdoc(model) or ""
    properties = schema_of(model).get("properties", {})
    rows = [
        [code(name), _type(field), field.get("description", "")]
        for name, field in properties.items()
    ]
    yield table(("field", "value", "meaning"), rows)
    if model is ERROR:
        for inner in dict.fromkeys(_models(model)):
            if inner is not ERROR:
                yield from _section(inner, level)


def _type(schema: Any) -> str:
    """Return a JSON schema as words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema:
        return codes(schema["enum"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)} by name" if isinstance(values, dict) else "object"
    return str(kind)
