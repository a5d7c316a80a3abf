"""Plug-ins bring members of registries without a fork, or say before any work why they do not fit."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.plugin_sources import source_files

FILTER = """
    from curation.stages.screen.filters import FilterEntry
    from curation.stages.screen.filters.base import Filter

    FILTERS = {"greenness": FilterEntry(module=f"{__name__}:Greenness")}


    def greenness(pair):
        import numpy as np

        colour = pair.colour
        return None if colour is None else float(np.mean(colour[:, :, 1]) / 255)


    class Greenness:
        FILTER = Filter("Mean of the green channel", "share", "float", "none", greenness)
"""

STRATEGY = """
    from typing import ClassVar, Literal

    from curation.stages.retrieve.strategies import StrategyEntry
    from curation.stages.retrieve.strategies.arm import Arm, Expected

    STRATEGIES = {"lowest": StrategyEntry(module=__name__)}


    class StrategyArm(Arm):
        uses: ClassVar = ("pool",)
        strategy: Literal["lowest"]
        size: int

        def expected(self, images):
            return Expected(self.size, self.size, self.size)


    def plan(arm, counts, seed):
        from curation.stages.retrieve.strategies.evidence import ArmPlan

        return ArmPlan(requested=arm.size)


    def claim(arm, evidence, plan, seed):
        import numpy as np

        from curation.stages.retrieve.strategies.evidence import ArmClaims, Limits

        images = evidence.pool.images
        # The first 64 bits of an id are its place in their order.
        order = np.array([int(image[:16], 16) for image in images], np.uint64)
        places = np.full(len(images), arm.size)
        return ArmClaims(images, len(images), limits=Limits(np.zeros_like(places), order, places))
"""

SOURCES = [
    {"name": "web", "role": "pool", "format": "folder", "path": "pool"},
    {"name": "birds", "role": "seed", "format": "folder", "path": "seeds"},
]


def written(folder: Path, name: str, code: str) -> str:
    path = folder / name
    path.write_text(textwrap.dedent(code))
    return str(path)


def in_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: plug-ins stay loaded in theirs."""
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def parsed(folder: Path, **blocks: object) -> subprocess.CompletedProcess[str]:
    spec = json.dumps({"name": "own", "sources": SOURCES} | blocks)
    return in_python(
        folder,
        f"""
        import json, sys
        sys.path.append({str(folder)!r})
        from curation.errors import CurationError
        from curation.flow import plan
        from curation.recipe import parse_recipe
        try:
            recipe = parse_recipe(json.loads({spec!r}))
            print(json.dumps({{step.name: step.fingerprint for step in plan(recipe)}}))
        except CurationError as error:
            print(error)
        """,
    )


def test_a_filter_is_named_like_any_other_and_its_source_counts(tmp_path: Path) -> None:
    blocks = {
        "plugins": ["green.py"],
        "screen": {"filters": ["aspect", "greenness"]},
        "select": {"greenness": {"at_least": 0.2}},
    }
    written(tmp_path, "green.py", FILTER)
    first = json.loads(parsed(tmp_path, **blocks).stdout)
    again = json.loads(parsed(tmp_path, **blocks).stdout)
    written(tmp_path, "green.py", FILTER.replace("/ 255", "/ 256"))
    edited = json.loads(parsed(tmp_path, **blocks).stdout)
    assert first == again
    changed = [name for name in first if first[name] != edited[name]]
    assert changed[0] == "screen" and "embed" not in changed


@pytest.mark.parametrize("plugin", ["green", "greens.near"])
def test_what_a_plug_in_imports_counts_too(tmp_path: Path, plugin: str) -> None:
    blocks = {"plugins": [plugin], "screen": {"filters": ["aspect", "greenness"]}}
    (tmp_path / "greens").mkdir()
    written(tmp_path, plugin.replace(".", "/") + ".py", textwrap.dedent(FILTER) + "import first\n")
    # A module that is imported as late as it is used, a package, and one that is not imported at all.
    written(tmp_path, "first.py", "def later():\n    from second.scales import SCALE\n")
    (tmp_path / "second").mkdir()
    for name in ("__init__", "scales"):
        written(tmp_path / "second", f"{name}.py", "SCALE = 255\n")
    written(tmp_path, "third.py", "import first\n")

    def fingerprint() -> str:
        return str(json.loads(parsed(tmp_path, **blocks).stdout)["screen"])

    first = fingerprint()
    assert fingerprint() == first
    written(tmp_path, "third.py", "import first, second\n")
    assert fingerprint() == first
    seen = [first]
    for name in ("first.py", "second/scales.py", "second/__init__.py"):
        with (tmp_path / name).open("a") as file:
            file.write("MORE = 1\n")
        seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


def test_folders_of_libraries_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe is parsed many times, and a library has thousands of files."""
    path = Path(written(tmp_path, "heavy.py", "import torch, numpy, json, beside_heavy\n"))
    beside = Path(written(tmp_path, "beside_heavy.py", "import torch\n"))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("heavy", path)
    assert spec is not None
    listed, rglob = list[Path](), Path.rglob

    def recorded(folder: Path, pattern: str) -> Iterator[Path]:
        listed.append(folder)
        return rglob(folder, pattern)

    monkeypatch.setattr(Path, "rglob", recorded)
    assert source_files(importlib.util.module_from_spec(spec)) == [path, beside]
    assert all(place.is_relative_to(tmp_path) for place in listed)


def test_a_plug_in_that_is_not_used_changes_nothing(tmp_path: Path) -> None:
    written(tmp_path, "green.py", FILTER)
    without = json.loads(parsed(tmp_path).stdout)
    assert json.loads(parsed(tmp_path, plugins=["green.py"]).stdout) == without


def test_a_strategy_comes_with_its_arm(tmp_path: Path) -> None:
    written(tmp_path, "lowest.py", STRATEGY)
    arms = [{"name": "a", "strategy": "lowest", "size": 2}]
    assert "retrieve" in json.loads(parsed(tmp_path, plugins=["lowest.py"], retrieve=arms).stdout)
    unknown = arms[0] | {"color": "red"}
    out = parsed(tmp_path, plugins=["lowest.py"], retrieve=[unknown]).stdout
    assert "unknown key 'color'" in out


def test_the_stage_claims_what_the_strategy_of_a_plug_in_says(tmp_path: Path, root: Path) -> None:
    written(tmp_path, "lowest.py", STRATEGY)
    done = in_python(
        tmp_path,
        f"""
        import json, sys
        sys.path.insert(0, {str(root)!r})
        from curation.store.store import Store
        from tests.docs.checks.common import image_rows, recipe_with, run_stage
        from tests.tables import commit, commit_empty_inputs
        store, rows = Store("store"), image_rows()
        commit(store, "images", {{"web-0": rows}})
        commit(store, "eligible", {{"web-0": [row | {{"status": "eligible"}} for row in rows]}})
        places = [
            {{"pair_id": row["pair_id"], "image_id": row["image_id"], "cluster_id": 0, "similarity": 1}}
            for row in rows
        ]
        commit(store, "assignments", {{"web-0": places}})
        commit_empty_inputs(store, ["retrieve"], {{}})
        arm = {{"name": "a", "strategy": "lowest", "size": 2}}
        claims = run_stage("retrieve", recipe_with(plugins=["lowest.py"], retrieve=[arm]), store)
        print(json.dumps(claims.read(["image_id"]).column(0).to_pylist()))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"{number:032x}" for number in range(2)]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("absent.py", None, "no file 'absent.py'"),
        ("calendar.py", FILTER, "Rename the file"),
        ("my-filter.py", FILTER, "Rename the file"),
        ("broken.py", "1 / 0", "ZeroDivisionError"),
        ("alone.py", "import no_such_neighbour", "put all into one file, or install a package"),
        ("script.py", "import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
        ("empty.py", "x = 1", "brings nothing"),
        ("taken.py", FILTER.replace('"greenness": ', '"aspect": '), "there is one of that name"),
        (
            "other.py",
            FILTER.replace("FilterEntry(module=f", "dict(module=f"),
            "is a dict; it must be",
        ),
        ("listed.py", "FILTERS = ['a']", "FILTERS of 'listed.py' is a list"),
        (
            "text.py",
            FILTER.replace('"float"', '"string"'),
            "scores string, but its entry has text=False",
        ),
        (
            "object.py",
            FILTER.replace(
                "class Greenness:\n        FILTER = Filter",
                "class Greenness:\n        FILTER = list\n        OTHER = Filter",
            ),
            "must be a Filter",
        ),
        (
            "plain.py",
            STRATEGY.replace("StrategyArm(Arm)", "StrategyArm"),
            "not a class built on Arm",
        ),
        (
            "misnamed.py",
            STRATEGY.replace('Literal["lowest"]', 'Literal["low"]'),
            "without the field",
        ),
        ("lacking.py", FILTER.replace("FILTER = Filter", "OTHER = Filter"), "lacks FILTER"),
        ("lost.py", FILTER.replace(":Greenness", ":Nothing"), "cannot be loaded"),
        ("no_such_module", None, "cannot be imported"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(
    tmp_path: Path, name: str, code: str | None, message: str
) -> None:
    if code is not None:
        written(tmp_path, name, code)
    assert message in parsed(tmp_path, plugins=[name]).stdout


HEAD = """
    from curation.stages.score.heads import HeadEntry
    HEADS = {"half": HeadEntry(module=__name__, needs=("weights",))}
    load = print
"""
ENCODER = """
    from curation.media.encoders import EncoderEntry
    ENCODERS = {"flat": EncoderEntry(__name__, needs=(("weights", "the file"),), takes=("precision",))}
    load = skeleton = print
"""
MISFITS = {
    "typed": (FILTER.replace('"float"', '"int"'), "of type 'int'; valid: float, int32, string"),
    "unscored": (FILTER.replace('"none", greenness', '"none", 3'), "`score` that cannot be called"),
    "spaced": (FILTER.replace('"greenness": ', '"a b": '), "the filter 'a b' has no valid name"),
    "numbered": (FILTER.replace('"greenness": ', "7: "), "the filter 7 has no valid name"),
    "unplanned": (STRATEGY + "\n    plan = None", "a `plan` that cannot be called"),
    "unused": (STRATEGY.replace('= ("pool",)', '= ("pol",)'), "has pol under uses; valid: pool"),
    "grouped": (
        STRATEGY.replace("module=__name__", 'module=__name__, grouped_by="seeds"'),
        "has seeds under grouped_by; valid: seed, cluster, flat",
    ),
    "field": (HEAD.replace('"weights"', '"weight"'), "has weight under needs or takes; valid: wei"),
    "uncalled": (HEAD.replace("= print", "= 1"), "has a `load` that cannot be called"),
    "unpaired": (ENCODER.replace('("weights", "the file")', '"weights"'), "a field and the reason"),
    "needy": (ENCODER.replace('("weights",', '("weight",'), "has weight under needs; valid: "),
    "taking": (ENCODER.replace('"precision"', '"dim"'), "has dim under takes; valid: checkpoint"),
    "bare": (ENCODER.replace("skeleton = print", "print; skeleton = 0"), "`skeleton` that cannot"),
}


def test_members_that_no_stage_could_use_are_named_before_any_work(tmp_path: Path) -> None:
    for name, (code, _) in MISFITS.items():
        written(tmp_path, f"{name}.py", code)
    done = in_python(
        tmp_path,
        f"""
        import json
        from curation.errors import RecipeError
        from curation.plugins import load_plugins
        messages = {{}}
        for name in {list(MISFITS)!r}:
            try:
                load_plugins([f"{{name}}.py"])
            except RecipeError as error:
                messages[name] = str(error)
        print(json.dumps(messages))
        """,
    )
    messages = json.loads(done.stdout)
    for name, (_, message) in MISFITS.items():
        assert message in messages.get(name, ""), name


def test_workers_load_a_module_though_an_entry_point_has_its_name(tmp_path: Path) -> None:
    written(tmp_path, "green.py", FILTER)
    written(tmp_path, "other.py", FILTER.replace('"greenness": ', '"other": '))
    package = tmp_path / "other-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[curation.plugins]\ngreen = other\n")
    done = in_python(
        tmp_path,
        f"""
        import sys
        sys.path.append({str(tmp_path)!r})
        from curation.plugins import activation, installed_plugins
        from curation.stages.screen.filters import FILTERS
        activation(["green.py"])()
        print(installed_plugins(), "greenness" in FILTERS, "other" in FILTERS)
        """,
    )
    assert done.stdout.split() == ["['green']", "True", "False"], done.stderr


def test_a_plug_in_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    """All that a plug-in brings is added, or nothing: a second try finds what the first did."""
    both = FILTER.replace(
        "FILTERS = {", 'FILTERS = {"first": FilterEntry(module=f"{__name__}:Greenness"), '
    )
    written(tmp_path, "both.py", both.replace('"greenness": ', '"aspect": '))
    done = in_python(
        tmp_path,
        """
        from curation.errors import RecipeError
        from curation.plugins import load_plugins
        from curation.stages.screen.filters import FILTERS
        before = list(FILTERS)
        for _ in range(2):
            try:
                load_plugins(["both.py"])
            except RecipeError as error:
                print("filter 'aspect'" in str(error), list(FILTERS) == before)
        """,
    )
    assert done.stdout.split() == ["True"] * 4, done.stderr


def test_two_plug_ins_with_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "one.py", FILTER)
    written(tmp_path, "two.py", FILTER)
    out = parsed(tmp_path, plugins=["one.py", "two.py"]).stdout
    assert "'two.py' brings the filter 'greenness'" in out and "one" in out


def test_workers_know_the_plug_in(tmp_path: Path, root: Path) -> None:
    """A run on Spark's workers, from the command line."""
    import numpy as np
    from PIL import Image

    from curation.engine.table import open_table
    from curation.store.store import Store

    (tmp_path / "pool").mkdir()
    for number in range(4):
        pixels = np.zeros((32, 40, 3), np.uint8)
        pixels[:, :, 1] = 60 * number
        Image.fromarray(pixels).save(tmp_path / "pool" / f"{number}.png")
    written(tmp_path, "green.py", FILTER)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "own",
                "plugins": ["green.py"],
                "sources": SOURCES[:1],
                "screen": {"filters": ["greenness"]},
            }
        )
    )
    run = [sys.executable, "-m", "curation.cli", "run", str(recipe), "--store", "store"]
    done = subprocess.run(
        [*run, "--until", "screen"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = open_table(Store(tmp_path / "store"), "scores").read(["greenness"])
    values = sorted(scores.column("greenness").to_pylist())
    assert values == pytest.approx([0, 60 / 255, 120 / 255, 180 / 255], abs=0.02)


def test_the_command_lists_what_there_is(root: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "curation.cli", "plugins"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("min_side", "linear", "vit_micro", "hierarchical"):
        assert name in listed
