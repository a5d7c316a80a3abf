"""A file of `schemas/` that is not valid is refused, with what was found and what is valid."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from curation.engine.column_types import VALID_TYPES
from curation.engine.contract import contracts, read_contracts
from curation.engine.resources import resource_dir
from curation.errors import ContractError

SPEC: dict[str, Any] = {
    "table": "things",
    "version": 1,
    "grain": "one thing",
    "key": ["name"],
    "columns": [
        {"name": "name", "type": "string", "nullable": False, "doc": "Name", "values": ["a", "b"]},
        {"name": "size", "type": "int32", "unit": "bytes", "min": 0, "max": 9, "doc": "Size"},
        {"name": "parts", "type": {"list": {"struct": {"name": "string"}}}, "doc": "Parts"},
    ],
}


def write(
    folder: Path,
    changes: dict[str, Any] | None = None,
    column: dict[str, Any] | None = None,
    name: str = "00_things.yaml",
) -> None:
    """Write the valid file with some keys of the table, or of the column `size`, changed."""
    spec = copy.deepcopy(SPEC)
    for place, edits in ((spec, changes), (spec["columns"][1], column)):
        place.update(edits or {})
        for key in [k for k, value in place.items() if value is None]:
            del place[key]
    (folder / name).write_text(yaml.safe_dump(spec))


def refusal(folder: Path) -> str:
    with pytest.raises(ContractError) as error:
        read_contracts(folder)
    return str(error.value)


def test_a_valid_file_becomes_a_contract(tmp_path: Path) -> None:
    write(tmp_path)
    (contract,) = read_contracts(tmp_path).values()
    assert (contract.table, contract.key, contract.names) == (
        "things",
        ("name",),
        ("name", "size", "parts"),
    )
    assert contract.columns[0].values == ("a", "b") and not contract.columns[0].nullable
    assert (contract.columns[1].low, contract.columns[1].high) == (0, 9)
    parts = pa.list_(pa.struct([("name", pa.string())]))
    assert contract.arrow_schema().field("parts").type == parts


def test_every_file_of_the_project_is_read() -> None:
    files = {path.name for path in resource_dir("schemas").iterdir()}
    assert len(contracts()) == len(files)


@pytest.mark.parametrize("declared", ["strnig", "float16", 3, None, {"map": "string"}, {}])
def test_an_unknown_type_names_file_column_and_valid_types(tmp_path: Path, declared: Any) -> None:
    write(
        tmp_path, {"columns": [{"name": "size", "type": declared, "doc": "Size"}], "key": ["size"]}
    )
    text = refusal(tmp_path)
    assert "00_things.yaml" in text and "column 'size'" in text and repr(declared) in text
    assert all(valid in text for valid in (*VALID_TYPES, "{list: TYPE}", "{struct: {NAME: TYPE}}"))


def test_a_misspelt_type_is_suggested(tmp_path: Path) -> None:
    write(tmp_path, column={"type": "strnig", "min": None, "max": None})
    assert "did you mean 'string'?" in refusal(tmp_path)


@pytest.mark.parametrize(
    "declared",
    [{"list": "vector"}, {"struct": {"a": "text"}}, {"struct": {}}, {"list": {"list": 1}}],
)
def test_types_within_types_are_checked(tmp_path: Path, declared: dict[str, Any]) -> None:
    write(tmp_path, column={"type": declared, "min": None, "max": None})
    text = refusal(tmp_path)
    assert "column 'size'" in text and "is no type" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colums": []}, "table: unknown key 'colums' (did you mean 'columns'?). Valid: table, "),
        ({"grain": None}, "table: key 'grain' is missing"),
        ({"version": "1"}, "table: version: Input should be a valid integer, found '1'"),
        ({"version": 0}, "table: version: Input should be greater than or equal to 1, found 0"),
        (
            {"key": ["id"]},
            "table: `key` names id, no column of the table. Valid: name, size, parts",
        ),
        ({"columns": ["name"]}, "column 1: "),
        ({"columns": [SPEC["columns"][0]] * 2}, "table: `columns` names name more than once"),
    ],
)
def test_keys_and_values_of_a_table_are_checked(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write(tmp_path, changes)
    text = refusal(tmp_path)
    assert "00_things.yaml" in text and words in text


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"mim": 0}, "unknown key 'mim' (did you mean 'min'?). Valid: name, type, doc"),
        ({"doc": None}, "key 'doc' is missing"),
        ({"nullable": "no"}, "nullable: Input should be a valid boolean, found 'no'"),
        ({"min": 10}, "`min` 10 is greater than `max` 9"),
        ({"type": "string"}, "`min` and `max` are for types int32, int64, float, double"),
        ({"values": ["a"]}, "`values` is for type string; the type is 'int32'"),
    ],
)
def test_keys_and_values_of_a_column_are_checked(
    tmp_path: Path, column: dict[str, Any], words: str
) -> None:
    write(tmp_path, column=column)
    text = refusal(tmp_path)
    assert "00_things.yaml" in text and "column 'size': " in text and words in text


def test_every_problem_of_a_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"grain": None}, {"type": "text", "min": None, "max": None})
    text = refusal(tmp_path)
    assert "key 'grain' is missing" in text and "'text' is no type" in text


@pytest.mark.parametrize(("text", "words"), [("a: [", "not YAML"), ("- a", "holds list")])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "00_things.yaml").write_text(text)
    assert words in refusal(tmp_path)


def test_two_files_of_one_table_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="01_more.yaml")
    text = refusal(tmp_path)
    assert "00_things.yaml" in text and "01_more.yaml" in text and "'things'" in text
