"""A recipe that says a thing twice, or cannot be read, is refused with one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.errors import RecipeError
from curation.recipe import load_recipe

SOURCE = "{name: web, role: pool, format: folder, path: pics}"
RECIPE = f"name: x\nsources:\n  - {SOURCE}\n"
BASE = "{name: web, role: pool, format: folder, path: pics}"


@pytest.mark.parametrize(
    "text",
    [
        RECIPE + "name: y\n",
        RECIPE + "'name': x\n",
        RECIPE + "seed: 1\nseed: 1\n",
        RECIPE + "fetch: {timeout_s: 1, timeout_s: 2}\n",
        RECIPE + "select: {min_side: {at_least: 1, at_least: 2}}\n",
        "name: x\nsources:\n  - {name: web, role: pool, format: folder, path: a, path: b}\n",
        f"name: x\nsources:\n  - &a {BASE}\n  - {{<<: *a, name: b}}\n",
        f"name: x\nsources:\n  - {{<<: [{BASE}, {{role: seed}}]}}\n",
        f"name: x\nsources:\n  - {{<<: {BASE}, <<: {{role: seed}}}}\n",
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml.*is given twice[\s\S]*line \d"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "text",
    [
        RECIPE,
        "\ufeff" + RECIPE.replace("\n", "\r\n"),
        "name: x\nsources:\n  - {<<: {role: pool, format: folder}, name: web, path: pics}\n",
    ],
)
def test_marks_line_ends_and_merges_without_repetition_are_fine(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_bytes(text.encode())
    assert load_recipe(tmp_path / "r.yaml").name == "x"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {<<: *a}",
        "? [1]\n: 2",
        "a: 1\n---\nb: 2",
        "a: 2024-13-45",
        "a: !!timestamp x",
        "a: !!int ''",
        "a: [!!int x]",
        "a: " + "9" * 5000,
        "a: " + "[" * 3000,
        "a: " + "[" * 60 + "]" * 60,
        "a: !!python/object:os.system x",
        "a: \x07",
        "name:\tx\n\t- y",
        "",
        "- 1",
    ],
)
def test_yaml_that_is_no_recipe_gives_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("number", ["010", "-0777", "00", "0_1", "1:30", "190:20:30", "1:30.5"])
def test_a_number_that_is_not_decimal_is_refused(tmp_path: Path, number: str) -> None:
    """YAML 1.1 reads `010` as 8 and `1:30` as 90."""
    (tmp_path / "r.yaml").write_text(RECIPE + f"seed: {number}\n")
    with pytest.raises(RecipeError, match=rf"r\.yaml:4.*YAML reads {number} as [-\d.]+\. Write"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("number", "value"),
    [("10", 10), ("0", 0), ("+7", 7), ("1_000", 1000), ("0x10", 16)],
)
def test_other_numbers_are_what_they_look_like(tmp_path: Path, number: str, value: int) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + f"seed: {number}\n")
    assert load_recipe(tmp_path / "r.yaml").seed == value


@pytest.mark.parametrize("first", ["[x, x]", "{}", "{k: v}", "{k: [x]}"])
@pytest.mark.parametrize("repeat", ["[{0}]", "{{<<: [{0}]}}", "{{a: [{0}]}}"])
def test_aliases_of_aliases_are_refused_before_anything_looks_at_each(
    tmp_path: Path, first: str, repeat: str
) -> None:
    """A kilobyte of them holds more values than can be looked at in a year."""
    lines = [RECIPE + f"x0: &x0 {first}"]
    for number in range(20):
        lines.append(f"x{number + 1}: &x{number + 1} {repeat.format(f'*x{number}, ' * 9)}")
    (tmp_path / "r.yaml").write_text("\n".join(lines))
    with pytest.raises(RecipeError, match=r"r\.yaml:\d+.* more than 100,000 values"):
        load_recipe(tmp_path / "r.yaml")


def test_a_recipe_that_is_too_large_or_in_another_encoding_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(RECIPE.encode() + b"#" * (1 << 20))
    with pytest.raises(RecipeError, match=r"r\.yaml.* has more than 1,048,576 bytes"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="more than 1,048,576 bytes"):
        load_recipe("/dev/zero")
    for encoding in ("utf-16", "latin-1"):
        path.write_bytes((RECIPE + "# é\n").encode(encoding))
        with pytest.raises(RecipeError, match=r"is not in UTF-8 \(.*\)\. Save it in UTF-8"):
            load_recipe(path)


def test_a_recipe_in_json_may_hold_an_emoji_as_two_escapes(tmp_path: Path) -> None:
    web = {"name": "web", "role": "pool", "format": "folder", "path": "pics 😀"}
    spec = {"name": "x", "sources": [web]}
    (tmp_path / "r.yaml").write_text(json.dumps(spec, ensure_ascii=True))
    assert load_recipe(tmp_path / "r.yaml").sources[0].path == "pics 😀"


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\udcff"', '"\\ude00\\ud83d"'])
@pytest.mark.parametrize("place", ["path: {}", "root: {}", "{}: x"])
def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path, text: str, place: str) -> None:
    """No file, key or column can have it, and no message can be written with it."""
    line = RECIPE.replace("path: pics", place.format(text))
    (tmp_path / "r.yaml").write_text(line)
    with pytest.raises(RecipeError, match=r"r\.yaml:3.*half of a surrogate pair"):
        load_recipe(tmp_path / "r.yaml")
