"""The layers of the package, held to the imports that its source has."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.structure import (
    LAYERS,
    PACKAGE,
    cycles,
    folder_graph,
    import_graph,
    layer_of,
    lengths,
    modules,
    sideways_imports,
    upward_imports,
)


@pytest.fixture(scope="module")
def graph() -> Mapping[str, frozenset[str]]:
    return import_graph()


def test_every_module_stands_in_a_layer(graph: Mapping[str, frozenset[str]]) -> None:
    assert {layer_of(module) for module in graph} == set(range(len(LAYERS)))


def test_imports_point_down(graph: Mapping[str, frozenset[str]]) -> None:
    assert upward_imports(graph) == []


def test_stages_do_not_import_each_other(graph: Mapping[str, frozenset[str]]) -> None:
    assert sideways_imports(graph) == []


def test_neither_folders_nor_modules_import_each_other_in_a_circle(
    graph: Mapping[str, frozenset[str]],
) -> None:
    assert cycles(folder_graph(graph, modules())) == []
    assert cycles(graph) == []


def test_the_check_sees_an_import_that_points_up(tmp_path: Path) -> None:
    package = tmp_path / "curation"
    (package / "engine").mkdir(parents=True)
    (package / "stages" / "embed").mkdir(parents=True)
    (package / "stages" / "dedup").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for folder in ("engine", "stages", "stages/embed", "stages/dedup"):
        (package / folder / "__init__.py").write_text("")
    (package / "engine" / "units.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from curation.stages import embed\n"
    )
    (package / "stages" / "embed" / "stage.py").write_text(
        "def f():\n    from curation.stages.dedup import stage\n"
    )
    (package / "stages" / "dedup" / "stage.py").write_text("import curation.stages.embed.stage\n")
    graph = import_graph(package)
    assert upward_imports(graph) == ["curation.engine.units -> curation.stages.embed"]
    assert sideways_imports(graph) == [
        "curation.stages.dedup.stage -> curation.stages.embed.stage",
        "curation.stages.embed.stage -> curation.stages.dedup.stage",
    ]
    assert cycles(graph) == [["curation.stages.dedup.stage", "curation.stages.embed.stage"]]


def test_functions_and_files_are_short() -> None:
    measured = lengths()
    assert measured.median <= 10
    assert measured.ninetieth <= 25
    assert measured.longest <= 60, measured.longest_function
    assert measured.longest_file <= 350, measured.longest_file_name


def test_nothing_is_found_by_asking_for_an_attribute() -> None:
    """What the runner may use of a stage stands in its contract: see curation/engine/stage.py."""
    engine = ("compute", "context", "exchange", "fragment_progress", "units")
    files = [*(PACKAGE / "runner").rglob("*.py"), PACKAGE / "launch.py", PACKAGE / "flow.py"]
    for path in (*files, *(PACKAGE / "engine" / f"{name}.py" for name in engine)):
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert not {"hasattr", "getattr", "signature"} & set(calls), path
