"""The page of every block and field of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getdoc
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter

from curation.engine.params_base import Name, StrictModel, has_mark, key_of
from curation.recipe import Recipe
from curation.stages.retrieve.strategies import STRATEGIES
from scripts.reference.markdown import GENERATED, code, codes, heading, page, table

MARKS = {"execution_only": "*Execution only.*", "input_file": "*Input file.*"}
NAME = TypeAdapter(Name).json_schema()["pattern"]


def recipe_page() -> str:
    """Return the page of every block and field of a recipe."""
    return page(
        "Recipe",
        GENERATED,
        "A recipe is one YAML file. Unknown keys are errors. A block or field that is left out has its "
        "default. A *name* has up to 64 characters: lower-case letters, digits, `-` and `_`. A field "
        "that is *execution only* changes how a run works, but not its rows: changing it computes "
        "nothing again. Of an *input file* the content counts, not the path.",
        "`curation schema` prints the JSON schema of a recipe. An editor with a YAML language server "
        "completes and checks a recipe whose first line is `# yaml-language-server: $schema=FILE`; "
        "the recipes in `conf/recipes` have it.",
        *_blocks(Recipe, ""),
        heading(2, "Arms by strategy", "arms"),
        "The fields of an entry of `retrieve`, by its `strategy`.",
        *(block for name in STRATEGIES for block in _arm(name)),
    )


def _arm(strategy: str) -> Iterator[str]:
    model = STRATEGIES.load(strategy).StrategyArm
    yield heading(3, code(f"strategy: {strategy}"), f"strategy-{strategy}")
    yield getdoc(model) or ""
    yield _fields(model, "retrieve[]")


def _blocks(model: type[BaseModel], place: str) -> Iterator[str]:
    """Yield a section for a model, and one for each model within its fields."""
    yield heading(
        min(2 + place.count("."), 4), code(place) if place else "Top level", anchor(place)
    )
    yield getdoc(model) or ""
    yield _fields(model, place)
    for name, info in model.model_fields.items():
        for nested in _models(info.annotation):
            yield from _blocks(nested, _place(place, key_of(model, name), info.annotation))


def _place(place: str, name: str, annotation: Any) -> str:
    """Return where a nested model stands in the YAML, as in `embed.encoders.NAME`."""
    kinds = {getattr(part, "__origin__", None) for part in _parts(annotation)}
    suffix = ".NAME" if dict in kinds else "[]" if list in kinds else ""
    return f"{place}.{name}{suffix}".strip(".")


def anchor(place: str) -> str:
    """Return the anchor of a block's section."""
    return "".join(c if c.isalnum() else "-" for c in place.lower()).strip("-") or "top"


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _models(annotation: Any) -> list[type[StrictModel]]:
    """Return the models within an annotation, each once."""
    parts = (p for p in _parts(annotation) if isinstance(p, type) and issubclass(p, StrictModel))
    return list(dict.fromkeys(parts))


def _fields(model: type[BaseModel], place: str) -> str:
    properties = model.model_json_schema(by_alias=False).get("properties", {})
    rows = [_field(model, name, properties[name], place) for name in model.model_fields]
    return table(("field", "type", "default", "limits", "description"), rows)


def _field(model: type[BaseModel], name: str, schema: Any, place: str) -> list[str]:
    info = model.model_fields[name]
    nested = _models(info.annotation)
    text = [info.description or ""]
    text += [
        f"See [its fields](#{anchor(_place(place, key_of(model, name), info.annotation))})."
    ] * bool(nested)
    text += [note for mark, note in MARKS.items() if has_mark(model, name, mark)]
    default = (
        "required" if info.is_required() else _default(info.get_default(call_default_factory=True))
    )
    return [
        code(key_of(model, name)),
        _type(schema),
        default,
        _limits(schema),
        " ".join(filter(None, text)),
    ]


def _default(value: Any) -> str:
    if isinstance(value, StrictModel):
        plain: Any = value.model_dump(mode="json", exclude_defaults=True)
        return code(_flow(plain)) if plain else "its defaults"
    if isinstance(value, dict):
        value = {
            k: v.model_dump(mode="json", exclude_defaults=True) if isinstance(v, BaseModel) else v
            for k, v in value.items()
        }
    return code(_flow(list(value) if isinstance(value, tuple) else value))


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("...").strip()


PLAIN_TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def _type(schema: Any) -> str:
    """Return a JSON schema as words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return codes(schema.get("enum") or [schema["const"]])
    if "$ref" in schema or "allOf" in schema:
        return "block"
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])} × {_type(schema['prefixItems'][0])}"
        return f"list of {_type(schema['items'])}"
    if kind == "object":
        values = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
        types = [_type(value) for value in values if isinstance(value, dict)]
        return f"mapping to {types[0]}" if types else "mapping"
    return "name" if schema.get("pattern") == NAME else PLAIN_TYPES.get(kind, "any")


LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "≥ {} entries",
    "maxItems": "≤ {} entries",
    "minProperties": "≥ {} entries",
    "minLength": "≥ {} characters",
    "pattern": "pattern `{}`",
}


def _limits(schema: Any) -> str:
    """Return the bounds within a JSON schema, those of its parts too."""
    limits = []
    if "prefixItems" not in schema:
        limits = [
            t.format(schema[key]) for key, t in LIMITS.items() if schema.get(key, NAME) != NAME
        ]
    parts = [*schema.get("anyOf", []), schema.get("items"), schema.get("additionalProperties")]
    parts += [schema.get("propertyNames"), *schema.get("patternProperties", {}).values()]
    limits += [_limits(part) for part in parts if isinstance(part, dict)]
    return ", ".join(dict.fromkeys(filter(None, limits)))
