"""Every command that prints facts prints them as JSON, and the JSON is what its schema says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from jsonschema import Draft202012Validator

from curation.cli import app
from curation.cli.facts import ERROR, FACTS, WITHOUT_FACTS, schema_of
from curation.inspect import train_filter
from curation.inspect.cost import calibrate
from curation.store.store import Store

from .conftest import Command, World, image_ids


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by the words that call it."""
    inner = getattr(group, "commands", None)
    if inner is None:
        yield name, group
    for word, command in (inner or {}).items():
        yield from commands(command, f"{name} {word}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_prints_facts_or_says_why_not() -> None:
    with_json = {name for name, c in COMMANDS.items() if any("--json" in p.opts for p in c.params)}
    assert with_json == set(FACTS)
    assert set(COMMANDS) - with_json == set(WITHOUT_FACTS)


def check(command: str, facts: Any) -> None:
    """Check what a command printed by its schema."""
    schema = schema_of(FACTS[command])
    Draft202012Validator.check_schema(schema)
    problems = [error.message for error in Draft202012Validator(schema).iter_errors(facts)]
    assert problems == []


def planned(run: Command, world: World, folder: Path) -> Iterator[Any]:
    plan = run("plan", world.recipe)
    assert {"dataset", "embeddings.semantic"} <= {t for s in plan["steps"] for t in s["tables"]}
    yield plan


def up_to_date(run: Command, world: World, folder: Path) -> Iterator[Any]:
    summary = run("run", world.recipe, "--store", world.store)
    assert summary["up_to_date"] and summary["dataset"]["rows"] > 0
    folders = {name: path for s in summary["stages"] for name, path in s["tables"].items()}
    assert folders["dataset"] == summary["dataset"]["address"]
    assert all(next(Path(folder).rglob("*.parquet"), None) for folder in folders.values())
    assert Path(summary["report"]).is_file()
    yield summary
    part = run("run", world.recipe, "--store", world.store, "--until", "screen")
    assert part["dataset"] is part["report"] is None
    yield part


def tables(run: Command, world: World, folder: Path) -> Iterator[Any]:
    for table in sorted({*Store(world.store).tables(), "dataset"}):
        shown = run("show", table, "--store", world.store, "-n", 2)
        assert shown["rows"] >= len(shown["sample"])
        yield shown


def paths(run: Command, world: World, folder: Path) -> Iterator[Any]:
    listed = run("path", "images", "--store", world.store)
    assert all(Path(file).is_file() for file in listed["files"])
    yield listed
    yield run("path", "dataset", "--store", world.store, "--dir")


def found(run: Command, world: World, folder: Path) -> Iterator[Any]:
    ids = image_ids(world.store)[:2]
    options = ["--store", world.store, "-k", 3, "--id", ids[0], "--id", ids[1]]
    searched = run("search", world.recipe, *options)
    assert [each["image_id"] for each in searched["images"] if each["rank"] == 1] == ids
    yield searched
    yield run("search", world.recipe, *options, "--out", folder / "found.parquet")


def head(run: Command, world: World, folder: Path) -> Iterator[Any]:
    ids = sorted(set(image_ids(world.store)))
    labels = {"image_id": ids, "label": [n % 2 for n in range(len(ids))]}
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    options = ["--labels", folder / "labels.parquet", "--out", folder / "head.safetensors"]
    yield run("train-filter", world.recipe, "--store", world.store, *options, "--hidden", 4)


def tags(run: Command, world: World, folder: Path) -> Iterator[Any]:
    yield run("tag", "paper", "--store", world.store)
    (tag,) = run("tag", "--store", world.store)
    assert (tag["name"], tag["run"]) == ("paper", world.run)
    yield [tag]
    yield run("tag", "paper", "--store", world.store, "--delete")


def forgotten(run: Command, world: World, folder: Path) -> Iterator[Any]:
    note = ["--by", "test", "--reason", "a request"]
    taken = run("forget", "--store", world.store, "--image-id", image_ids(world.store)[0], *note)
    assert taken["rows"]
    yield taken
    yield run("forget", "--store", world.store, "--prove", status=1)


def damaged(run: Command, world: World, folder: Path) -> Iterator[Any]:
    assert run("verify-store", "--store", world.store) == []
    path = Path(run("path", "pairs", "--store", world.store)["files"][0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems = run("verify-store", "--store", world.store, status=1)
    assert [problem["table"] for problem in problems] == ["pairs"]
    yield problems


def one(*words: str, store: bool = False, recipe: bool = False) -> Case:
    """A case of one command that needs little."""

    def case(run: Command, world: World, folder: Path) -> Iterator[Any]:
        arguments: list[object] = [*words]
        arguments += [world.recipe] * recipe
        arguments += ["--store", world.store] * store
        yield run(*arguments)

    return case


def difference(run: Command, world: World, folder: Path) -> Iterator[Any]:
    yield run("diff", world.store, world.store, "--out", folder / "difference.parquet")


def rates(run: Command, world: World, folder: Path) -> Iterator[Any]:
    yield run("calibrate", "--out", folder / "rates.yaml")


def audit(run: Command, world: World, folder: Path) -> Iterator[Any]:
    yield run(
        "audit", "dedup", world.recipe, "--store", world.store, "--sample", 2, "--out", folder
    )


def restored(run: Command, world: World, folder: Path) -> Iterator[Any]:
    yield run("restore", world.run, "--store", world.store)


def selected(run: Command, world: World, folder: Path) -> Iterator[Any]:
    query = "SELECT role, count(*) AS n FROM images GROUP BY role"
    rows = run("sql", world.store, query)
    assert {row["role"] for row in rows} == {"pool", "seed"}
    yield rows


def reasons(run: Command, world: World, folder: Path) -> Iterator[Any]:
    image = image_ids(world.store)[0]
    answer = run("why", image, "--store", world.store)
    assert answer["found"] >= len(answer["rows"]) > 0
    yield answer
    yield run("why", "0" * 32, "--store", world.store)


def versions(run: Command, world: World, folder: Path) -> Iterator[Any]:
    (version,) = run("versions", "images", "--store", world.store)
    assert version["runs"] == [world.run]
    yield [version]


Case = Callable[[Command, World, Path], Iterator[Any]]
CASES: dict[str, Case] = {
    "check": one("check", recipe=True, store=True),
    "plan": planned,
    "run": up_to_date,
    "report": one("report", recipe=True, store=True),
    "calibrate": rates,
    "weights": one("weights", recipe=True),
    "show": tables,
    "path": paths,
    "search": found,
    "why": reasons,
    "sql": selected,
    "diff": difference,
    "train-filter": head,
    "plugins": one("plugins"),
    "status": one("status", store=True),
    "runs": one("runs", store=True),
    "versions": versions,
    "gc": one("gc", store=True),
    "tag": tags,
    "restore": restored,
    "forget": forgotten,
    "opt-outs": one("opt-outs", store=True),
    "verify-store": damaged,
    "audit dedup": audit,
}
"""What runs each command, in the ways in which it prints other facts."""


def test_every_command_is_run() -> None:
    assert set(CASES) == set(FACTS)


LONG = {"audit dedup"}
"""Takes a minute; tests/audit compares its summary with the model too."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.nightly] * (n in LONG)) for n in CASES]
)
def test_a_command_prints_what_its_schema_says(
    name: str, command: Command, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_filter, "MIN_LABELS", 2)
    monkeypatch.setattr(calibrate, "SECONDS", 0.001)
    folder = tmp_path / "out"
    folder.mkdir()
    for facts in CASES[name](command, world, folder):
        check(name, facts)
    shutil.rmtree(world.store)


def test_every_field_is_described() -> None:
    for entry in (*FACTS.values(), ERROR):
        schema = schema_of(entry)
        for model in [schema, *schema.get("$defs", {}).values()]:
            for name, field in model.get("properties", {}).items():
                assert field.get("description"), (model["title"], name)
