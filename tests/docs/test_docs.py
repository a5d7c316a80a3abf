"""The site builds strictly, its reference holds everything, and the examples of the pages are valid."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from curation.algorithms.kmeans.backends import BACKENDS
from curation.cli import app
from curation.engine.contract import contracts
from curation.flow import STAGES
from curation.inspect.audit.edits import EDITS
from curation.media.encoders import ENCODERS
from curation.recipe import Recipe
from curation.stages.fetch.detectors import DETECTORS
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.score.heads import HEADS
from curation.stages.screen.filters import FILTERS
from scripts.reference.pages import PAGES

LINK = re.compile(r"\]\(([^)\s:#]+)(?:#[^)\s]*)?\)")
FOLDERS = "curation|tests|scripts|conf|schemas|jobs|benchmarks|airflow_dags|docs|quickstart"
FILE = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALLEST = {
    "name": "own",
    "sources": [{"name": "web", "role": "pool", "format": "folder", "path": "pool"}],
}


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


def section(text: str, start: str, end: str = "<h2") -> str:
    """What stands between a heading and the next."""
    assert f'id="{start}"' in text, start
    return text.partition(f'id="{start}"')[2].partition(end)[0]


def is_named(name: str, text: str) -> bool:
    return f"<code>{html.escape(name, quote=False)}</code>" in text


def properties(schema: dict[str, Any]) -> set[str]:
    """The fields of a JSON schema and of all definitions in it."""
    models = [schema, *schema.get("$defs", {}).values()]
    return {name for model in models for name in model.get("properties", {})}


def test_every_field_of_a_recipe_is_in_the_reference(site: Path) -> None:
    text = page(site, "reference/recipe")
    fields = properties(Recipe.model_json_schema())
    assert {"sources", "at_least", "crop_pct", "per_second"} <= fields
    assert {name for name in fields if not is_named(name, text)} == set()
    for name in STRATEGIES:
        of_strategy = section(text, f"strategy-{name}", "<h3")
        arm = properties(STRATEGIES.load(name).StrategyArm.model_json_schema())
        assert {field for field in arm if not is_named(field, of_strategy)} == set()


def test_every_table_and_column_is_in_the_reference(site: Path) -> None:
    text = page(site, "reference/tables")
    for table, terms in contracts().items():
        columns = section(text, f"table-{table}")
        assert {column for column in terms.names if not is_named(column, columns)} == set()
        readers = [stage.name for stage in STAGES.values() if table in map(str, reads(stage))]
        assert all(is_named(name, columns) for name in readers), table


def reads(stage: Any) -> Iterator[str]:
    return (read.argument for read in stage.reads)


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, group
    for inner, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {inner}")


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = page(site, "reference/commands")
    documented = dict(commands(typer.main.get_command(app), "curation"))
    assert {"curation run", "curation audit dedup"} <= documented.keys()
    for name, command in documented.items():
        of_command = section(text, name.replace(" ", "-"))
        options = [p for p in command.params if p.param_type_name == "option"]
        wanted = {name for option in options for name in option.opts} - {"--help"}
        assert {option for option in wanted if not is_named(option, of_command)} == set(), name


@pytest.mark.parametrize(
    ("anchor", "members"),
    [
        ("filters", FILTERS),
        ("heads", HEADS),
        ("encoder-families", ENCODERS),
        ("strategies", STRATEGIES),
        ("formats", FORMATS),
        ("published-lists", PRESETS),
        ("face-detectors", DETECTORS),
        ("k-means-back-ends", BACKENDS),
        ("audit-edits", EDITS),
    ],
)
def test_every_member_of_a_registry_is_in_the_reference(
    site: Path, anchor: str, members: Iterable[str]
) -> None:
    of_registry = section(page(site, "reference/registries"), anchor)
    assert {name for name in members if not is_named(name, of_registry)} == set()


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*href=\"(?:https?:)?//"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert [path.name for path in pages if loaded.search(path.read_text(encoding="utf-8"))] == []


def test_the_index_finds_words_of_the_pages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    text = " ".join(entry["text"] for entry in index["docs"])
    assert "union–find" in text and "caption_repeats" in text


def documents(root: Path) -> list[Path]:
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").glob("*.md"))]


def test_each_page_begins_with_its_heading(root: Path) -> None:
    results = sorted((root / "benchmarks" / "results").glob("*.md"))
    for path in [*documents(root), *results]:
        assert path.read_text(encoding="utf-8").startswith("# "), path


def test_links_of_the_repository_lead_to_files(root: Path) -> None:
    broken = [
        f"{path.name}: {target}"
        for path in documents(root)
        for target in LINK.findall(path.read_text(encoding="utf-8"))
        # The site makes these when it is built.
        if not (path.parent / target).exists() and target not in PAGES
    ]
    assert broken == []


def test_files_that_the_pages_name_exist(root: Path) -> None:
    missing = [
        f"{path.name}: {name}"
        for path in documents(root)
        for name in FILE.findall(path.read_text(encoding="utf-8"))
        if not (root / name).exists()
    ]
    # The changelog tells of what is gone.
    assert [line for line in missing if not line.startswith("CHANGELOG.md")] == []


def test_recipes_of_the_documentation_are_valid(root: Path) -> None:
    seen = 0
    for path in documents(root):
        for block in YAML.findall(path.read_text(encoding="utf-8")):
            if block.startswith(("# file:", "# edit:", "plugins:")):
                continue
            spec = yaml.safe_load(block.replace("…", "a" * 64))
            spec = {"embed": spec} if "encoders" in spec else spec
            Recipe.model_validate(SMALLEST | spec)
            seen += 1
    assert seen >= 8


def test_the_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_readme_leads_to_every_page(root: Path) -> None:
    linked = set(LINK.findall((root / "README.md").read_text(encoding="utf-8")))
    pages = {f"docs/{path.name}" for path in (root / "docs").glob("*.md")}
    assert pages - linked == {"docs/index.md"}
