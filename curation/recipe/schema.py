"""The JSON schema of a recipe, for editors and other programs: what the models say, and the names that
registries have.

It is as strict as the models about keys, types and limits. What the blocks of a recipe must agree on
(`curation.recipe.checks`), and what depends on files, only `load_recipe` checks. Where the recipe names
plug-ins, names of what plug-ins may bring are open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from curation.algorithms.kmeans.backends import BACKENDS
from curation.media.encoders import ENCODERS
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.web.failure_reasons import FAMILIES, failure_names
from curation.recipe.model import Recipe
from curation.stages.fetch.detectors import DETECTORS
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.score.heads import HEADS
from curation.stages.screen.filters import FILTERS
from curation.stages.tally.params import SCORES as TALLIED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NOISE = ("title", "execution_only", "input_file")
"""Keys of pydantic that say nothing to an editor."""

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """Return the JSON schema (draft 2020-12) of a recipe, with the members of loaded plug-ins."""
    schema: Schema = Recipe.model_json_schema()
    definitions: Schema = schema["$defs"]
    _add_arms(definitions)
    schema = dict(_without_noise(schema))
    _name_members(schema["properties"], schema["$defs"])
    for name, block in schema["properties"].items():
        if name not in schema["required"]:
            # A block whose lines are all commented out is a block with its defaults.
            schema["properties"][name] = _or_null(block, schema["$defs"])
    head = {"$schema": DIALECT, "title": "Recipe of curation"}
    return head | schema | {"allOf": [_closed_without_plugins()]}


def _add_arms(definitions: Schema) -> None:
    """Replace the arm that all strategies have by one for each strategy."""
    names = list(STRATEGIES)
    for name in names:
        model = STRATEGIES.load(name).StrategyArm
        arm = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(arm.pop("$defs", {}))
        definitions[_arm_of(name)] = arm
    shared = definitions["Arm"]
    strategy = shared["properties"]["strategy"]
    definitions["Arm"] = {
        "description": shared["description"],
        "type": "object",
        "properties": {"strategy": strategy | _named(names, is_open=True)},
        "required": shared["required"],
        "allOf": [
            {
                "if": {"properties": {"strategy": {"const": name}}, "required": ["strategy"]},
                "then": {"$ref": f"#/$defs/{_arm_of(name)}"},
            }
            for name in names
        ],
    }


def _arm_of(strategy: str) -> str:
    return f"Arm.{strategy}"


def _name_members(properties: Schema, definitions: Schema) -> None:
    """Add the names that texts of the recipe may have."""
    fields = {
        ("Source", "format"): _named([*FORMATS, *PRESETS]),
        ("ScreenParams", "filters", "items"): _named(FILTERS, is_open=True),
        ("HeadSpec", "kind"): _named(HEADS, is_open=True),
        ("ClusterParams", "backend"): _named(BACKENDS),
        ("FaceParams", "detector"): {"enum": [*DETECTORS, None]},
        ("FetchParams", "formats", "items"): _named(PLUG_INS),
        ("FetchParams", "fail_over"): {
            "propertyNames": {"anyOf": [{"enum": failure_names()}, {"pattern": FAMILIES}]}
        },
    }
    for (definition, name, *inner), more in fields.items():
        field = definitions[definition]["properties"][name]
        for key in inner:
            field = field[key]
        field |= more
    _name_scores(properties["select"])


def _name_scores(select: Schema) -> None:
    """Add the scores that every recipe may bound. Heads and lists of words have others."""
    threshold = select["additionalProperties"]
    select["properties"] = dict.fromkeys((*FILTERS, *TALLIED), threshold)


def _named(names: Iterable[str], is_open: bool = False) -> Schema:
    """Return what says that a text is one of some names.

    Args:
        names: the names.
        is_open: whether plug-ins may bring others; editors still offer these.
    """
    listed = {"enum": list(names)}
    return {"anyOf": [listed, {"type": "string"}]} if is_open else listed


def _closed_without_plugins() -> Schema:
    """Return the rule that without plug-ins, only names of this package are valid."""
    named = {"properties": {"plugins": {"type": "array", "minItems": 1}}, "required": ["plugins"]}
    families = "|".join(sorted(ENCODERS))
    encoder = {"properties": {"model": {"pattern": f"^({families})(/.*)?$"}}}
    blocks = {
        "screen": _below(("filters",), {"items": {"enum": list(FILTERS)}}),
        "score": _below(("heads",), _values({"properties": {"kind": {"enum": list(HEADS)}}})),
        "embed": _below(("encoders",), _values(encoder)),
        "retrieve": {"items": {"properties": {"strategy": {"enum": list(STRATEGIES)}}}},
    }
    return {"if": {"not": named}, "then": {"properties": blocks}}


def _below(keys: Iterable[str], schema: Schema) -> Schema:
    for key in keys:
        schema = {"properties": {key: schema}}
    return schema


def _values(schema: Schema) -> Schema:
    return {"additionalProperties": schema}


def _or_null(block: Schema, definitions: Schema) -> Schema:
    """Return the schema of a block that may be null, with its description and default on top."""
    model = definitions.get(block.get("$ref", "").rpartition("/")[2], {})
    block = {"description": model.get("description", ""), **block}
    about: Schema = {key: block[key] for key in ("description", "default") if key in block}
    rest = {key: value for key, value in block.items() if key not in about}
    return {**about, "anyOf": [rest, {"type": "null"}]}


def _without_noise(schema: Any, is_map: bool = False) -> Any:
    """Return a schema without keys that say nothing.

    Args:
        schema: the schema, or a part of it.
        is_map: whether its keys are names of fields or definitions, which all stay.
    """
    if isinstance(schema, list):
        return [_without_noise(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return dict(_cleaned(schema, is_map))


def _cleaned(schema: Schema, is_map: bool) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key == "default":
            yield key, value
        elif is_map or key not in NOISE:
            inner_is_map = not is_map and key in ("properties", "$defs", "patternProperties")
            yield key, _without_noise(value, inner_is_map)
    if not is_map and "patternProperties" in schema:
        # Names of another form are refused too.
        yield "additionalProperties", False
