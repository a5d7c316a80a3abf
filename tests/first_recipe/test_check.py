"""`curation check`: each warning appears where it should, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.cli.run_commands import WITHOUT_ARMS
from curation.engine.parallel import InProcess
from curation.inspect.check.after_select import idle_after_select
from curation.inspect.check.check import check_recipe, warnings_before_run
from curation.inspect.check.estimate import Estimate
from curation.inspect.check.findings import Facts
from curation.inspect.check.machine import Machine
from curation.inspect.check.survey import Survey, survey
from curation.inspect.check.trial import Trial
from curation.inspect.check.warnings import WARNINGS, idle_threshold, warnings_of
from curation.inspect.first_recipe.draft import draft
from curation.media.web.params import OutboundParams
from curation.recipe import Recipe, parse_recipe
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile
from curation.stages.screen.filters import FILTERS, FilterEntry
from curation.stages.select.params import Threshold
from curation.store.manifest import Manifest

from .files import LISTS, LOCAL, pictures

GIB = 2**30
Spec = dict[str, Any]


def base() -> Spec:
    """A recipe about which there is nothing to say."""
    onnx = {"model": "onnx", "weights": "a.onnx"}
    return {
        "name": "a",
        "sources": [
            {"name": "web", "role": "pool", "format": "folder", "path": "p"},
            {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
        ],
        "embed": {"encoders": {"semantic": onnx, "copy": onnx}},
        "cluster": {"encoder": "semantic", "levels": [50]},
        "select": {"min_side": {"at_least": 64}, "caption_length": {"at_least": 5}},
        "retrieve": [{"name": "near", "seeds": "seeds", "strategy": "sample", "k": 4}],
    }


def twin(role: str, path: str) -> Spec:
    """A source that reads what one of the recipe reads."""
    return {"name": "twin", "role": role, "format": "folder", "path": path}


def surveyed(source: Source, rows: int = 1000, **values: Any) -> Survey:
    """A source of which three rows were read."""
    file = SourceFile(source, "/p", "", 1, 0)
    made = Survey(source, 1, 100, rows, False)
    for _ in range(3):
        made.add(file, SourceRow(**({"path": "1.jpg", "caption": "a caption"} | values)))
    return made


def facts(recipe: Recipe, rows: int = 1000, **known: Any) -> Facts:
    """What a check knows of a recipe."""
    values = known.pop("values", {})
    surveys = [surveyed(source, rows, **values) for source in recipe.sources]
    scores = {"min_side": [32, 128, 512], "caption_length": [2, 9, 30]}
    trial = Trial(3, stored_bytes=1e4, scores=scores)
    slow = {"bf16": 74.0, "fp16": 1.5}
    machine = Machine("/java", "", (), 2, 16 * GIB, 100 * GIB, slow)
    estimate = Estimate(1e9, 1e9, 10, 0)
    parts: dict[str, Any] = {"trial": trial, "machine": machine, "estimate": estimate}
    parts["slow_precisions"] = slow
    return Facts(recipe, surveys, **(parts | known))


CASES: list[tuple[str, Spec, Spec]] = [
    ("no_retrieve", {"retrieve": []}, {}),
    ("pixels_off", {"assemble": {"pixels": False}}, {}),
    (
        "first_run_encoder",
        {
            "embed": {
                "encoders": {"semantic": {"model": "vit_micro"}, "copy": {"model": "copy_micro"}}
            }
        },
        {},
    ),
    (
        "weights_elsewhere",
        {
            "embed": {
                "encoders": base()["embed"]["encoders"]
                | {"semantic": {"model": "timm/a_model_that_nobody_has"}}
            }
        },
        {},
    ),
    ("many_clusters", {"cluster": {"encoder": "semantic", "levels": [51]}}, {}),
    ("large_k", {"retrieve": [base()["retrieve"][0] | {"k": 501}]}, {}),
    ("no_captions", {}, {"values": {"caption": None}}),
    ("idle_threshold", {"select": {"min_side": {"at_least": 16}}}, {}),
    ("idle_threshold", {"select": {"min_side": {"at_least": 5000}}}, {}),
    ("same_files", {"sources": [*base()["sources"], twin("pool", "s/../p")]}, {}),
    ("same_files", {"sources": [*base()["sources"], twin("held_out", "s")]}, {}),
    ("unreadable_rows", {}, {"values": {"bad": True, "unreadable": "no", "where": "line 3"}}),
    ("unreadable_rows", {}, {"values": {"path": None, "url": None}}),
    ("large_metadata", {}, {"values": {"metadata": json.dumps({"a": 1, "v": [0.25] * 1024})}}),
    (
        "failing_pictures",
        {},
        {"trial": Trial(3, failed={"file_missing": 1}, scores={"min_side": [32, 512]})},
    ),
    ("failing_pictures", {}, {"curated": Trial(3, failed={"unreadable": 1})}),
    (
        "slow_precision",
        {
            "embed": {
                "encoders": base()["embed"]["encoders"]
                | {
                    "semantic": {
                        "model": "timm/vit_small_patch14_dinov2.lvd142m",
                        "weights": "a.safetensors",
                        "precision": "bf16",
                    }
                }
            }
        },
        {},
    ),
    ("disk", {}, {"estimate": Estimate(200 * GIB, 1e9, 10, 0)}),
    ("memory", {}, {"estimate": Estimate(1e9, 15 * GIB, 10, 0)}),
]


def codes(changes: Spec, known: Spec) -> list[str]:
    """The codes of all warnings about a recipe."""
    return [f.code for f in warnings_of(facts(parse_recipe(base() | changes), **known))]


def test_a_sound_recipe_has_no_warning() -> None:
    assert codes({}, {}) == []
    # Exactly at the bounds.
    assert codes({"retrieve": [base()["retrieve"][0] | {"k": 500}]}, {}) == []
    # A pool too small for two clusters has one.
    assert codes({"cluster": {"encoder": "semantic", "levels": [1]}}, {"rows": 12}) == []
    assert codes({"retrieve": [{"name": "everything", "strategy": "everything"}]}, {}) == []
    # Seeds may be pictures of the pool, and one set may have two names.
    for path in ("p", "s"):
        assert codes({"sources": [*base()["sources"], twin("seed", path)]}, {}) == []


@pytest.mark.parametrize(("code", "changes", "known"), CASES, ids=[case[0] for case in CASES])
def test_each_warning_appears_alone(code: str, changes: Spec, known: Spec) -> None:
    assert set(codes(changes, known)) == {code}
    for finding in warnings_of(facts(parse_recipe(base() | changes), **known)):
        assert finding.where and finding.text and finding.fix


@pytest.mark.parametrize(
    ("failed", "reasons", "names_root"),
    [
        ({"file_missing": 3}, "3 file_missing", True),
        ({"a": 1, "b": 2, "outside_folder": 1}, "2 b, 1 a, 1 outside_folder", False),
        ({"a": 3, "b": 2, "c": 1, "d": 1}, "3 a, 2 b, 1 c, 1 for other reasons", False),
    ],
)
def test_reasons_of_pictures_that_fail_add_up(
    failed: dict[str, int], reasons: str, names_root: bool
) -> None:
    known = facts(parse_recipe(base()), trial=Trial(9, failed=failed))
    (finding,) = (f for f in warnings_of(known) if f.code == "failing_pictures")
    assert finding.text.endswith(f"cannot be used: {reasons}")
    assert ("`root`" in finding.fix) == names_root


def test_every_kind_of_warning_is_tried() -> None:
    tried = set()
    for _, changes, known in CASES:
        recipe = parse_recipe(base() | changes)
        tried |= {warn for warn in WARNINGS if list(warn(facts(recipe, **known)))}
    assert tried == set(WARNINGS)


def test_long_metadata_names_the_column() -> None:
    values = {"metadata": json.dumps({"a": "b" * 90, "v": [0.25] * 1024})}
    found = warnings_of(facts(parse_recipe(base()), values=values))
    assert [f.where for f in found] == ["sources.web", "sources.seeds"]
    assert all("most of them in 'v'" in f.text for f in found)
    usual = {"metadata": json.dumps({"a": "b" * 4000})}
    assert codes({}, {"values": usual}) == []


def test_pixels_may_be_off_where_urls_lead_to_them() -> None:
    urls = {"values": {"url": "http://a.example/1.jpg"}}
    assert codes({"assemble": {"pixels": False}}, urls) == []


def test_nothing_is_said_of_a_pool_that_could_not_be_read() -> None:
    recipe = parse_recipe(base() | {"cluster": {"encoder": "semantic", "levels": [10**6]}})
    assert warnings_of(Facts(recipe, [])) == []


def test_a_filter_says_itself_whether_it_is_of_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of plug-ins, whose names may be any."""
    select = {"select": {"min_side": {"at_least": 64}, "caption_length": {"at_least": 5}}}
    known = facts(parse_recipe(base() | select), values={"caption": None})
    members = {"min_side": FilterEntry(caption=True), "caption_length": FilterEntry()}
    for name, entry in members.items():
        monkeypatch.setitem(FILTERS._entries, name, entry)
    assert [f.where for f in warnings_of(known) if f.code == "no_captions"] == ["select.min_side"]


def test_captions_may_be_in_a_part_of_the_pool_that_was_not_read() -> None:
    """A source on the web is not read before a run, and of a long list the first rows are."""
    spec = base()
    spec["sources"][0]["name"] = "local"
    web = {"name": "web", "role": "pool", "format": "laion", "path": "https://a.example/a.parquet"}
    recipe = parse_recipe(spec | {"sources": [*spec["sources"], web]})
    known = facts(recipe, values={"caption": None})
    local = replace(known, surveys=[s for s in known.surveys if s.source.name != "web"])
    assert "no_captions" in {finding.code for finding in warnings_of(known)}
    assert "no_captions" not in {finding.code for finding in warnings_of(local)}
    (first,) = [f.text for f in warnings_of(known) if f.code == "no_captions"]
    assert "none of the first 6 rows has a caption" in first
    whole = [replace(survey, is_exact=True) for survey in known.surveys]
    (exact,) = [
        f.text for f in warnings_of(replace(known, surveys=whole)) if f.code == "no_captions"
    ]
    assert "the pool has no captions" in exact


@pytest.mark.parametrize("model", ["timm/a model", "timm/-x", "timm/a..b", "timm/" + "x" * 200])
def test_a_name_that_no_hub_can_have_is_no_crash(model: str) -> None:
    encoders = base()["embed"]["encoders"] | {"semantic": {"model": model}}
    assert codes({"embed": {"encoders": encoders}}, {}) == ["weights_elsewhere"]


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"model": "open_clip/ViT-B-32/laion2b_s34b_b79k"}, "unless its cache has them"),
        ({"model": "timm/vit_tiny_patch16_224.nobody"}, "are not on this machine"),
        ({"model": "open_clip", "weights": "models/clip"}, None),
        ({"model": "vit_micro"}, None),
    ],
)
def test_whatever_the_hub_has_is_said_to_be_downloaded(
    spec: dict[str, str], warned: str | None
) -> None:
    encoders = base()["embed"]["encoders"] | {"semantic": spec}
    recipe = parse_recipe(base() | {"embed": {"encoders": encoders}})
    texts = [f.text for f in warnings_of(facts(recipe)) if f.code == "weights_elsewhere"]
    assert len(texts) == (warned is not None)
    assert warned is None or warned in texts[0]


OUTCOMES = {"undecodable": 4, "contaminated": 2, "copy_near": 3, "vector_not_finite": 1}


@pytest.mark.parametrize(
    ("outcomes", "idle"),
    [
        ({"min_side": 5, "aspect": 5, "eligible": 10}, []),
        ({"aspect": 5, "eligible": 10}, ["min_side"]),
        ({"min_side": 5, "eligible": 10}, ["aspect"]),
        ({"eligible": 10}, ["min_side", "aspect"]),
    ],
)
def test_thresholds_are_judged_by_the_rows_that_reach_them(
    outcomes: dict[str, int], idle: list[str]
) -> None:
    warnings = judged(OUTCOMES | outcomes)
    assert [where.removeprefix("select.") for where, _ in warnings] == idle
    assert all(text.startswith("all of") for _, text in warnings)


def test_a_threshold_that_leaves_nothing_is_named() -> None:
    assert judged({"undecodable": 4, "min_side": 6}) == [
        ("select.min_side", "none of 6 rows that reach it passes at_least 64.0")
    ]
    assert judged({"undecodable": 4}) == []


@pytest.mark.parametrize("bound", [{"at_most": 0.5}, {"at_least": 9}, {"one_of": ["x"]}])
def test_what_to_do_about_a_threshold_fits_every_bound(bound: Spec) -> None:
    finding = idle_threshold("aspect", Threshold(**bound), 0, 6, "rows")
    assert finding.fix == "Remove it, or make it less strict"


def judged(outcomes: dict[str, int]) -> list[tuple[str, str]]:
    """What is said of two thresholds after select counted these outcomes."""
    recipe = parse_recipe(
        base() | {"select": {"min_side": {"at_least": 64}, "aspect": {"at_most": 3}}}
    )
    manifest = Manifest(
        *("eligible", "v", "select", 1, 1, {}, {}, "", ()), counts={"pool": outcomes}, stats={}
    )
    return [(finding.where, finding.text) for finding in idle_after_select(recipe, manifest)]


@pytest.fixture
def photos(tmp_path: Path) -> Spec:
    """A recipe of a folder of pictures, two of which cannot be decoded."""
    LOCAL["captioned"](tmp_path / "photos", pictures(30))
    for name in ("x", "y"):
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    source = {"name": "photos", "role": "pool", "format": "folder"}
    return {
        "name": "a",
        "sources": [source | {"path": str(tmp_path / "photos")}],
        "embed": {
            "encoders": {"semantic": {"model": "vit_micro"}, "copy": {"model": "copy_micro"}}
        },
        "cluster": {"encoder": "semantic", "levels": [1]},
    }


def test_a_sample_is_fetched_and_screened(photos: Spec, tmp_path: Path) -> None:
    select = {"min_side": {"at_least": 5000}}
    checked = check_recipe(parse_recipe(photos | {"select": select}), str(tmp_path / "store"))
    trial = checked.facts.trial
    assert (trial.pictures, trial.stored) == (32, 30)
    assert sum(trial.failed.values()) == 2
    assert set(trial.scores["min_side"]) == {96}
    assert {f.code for f in checked.warnings} == {
        "no_retrieve",
        "first_run_encoder",
        "idle_threshold",
    }
    assert list(checked.problems) == []
    assert not (tmp_path / "store" / "tables").exists()
    estimate = checked.facts.estimate
    assert estimate is not None and estimate.stored > 32 * 1000


def test_pictures_of_held_out_sets_are_tried_and_looked_for(photos: Spec, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(4)]
    listed = {"images": [{"id": n, "file_name": name} for n, name in enumerate(names)]}
    (tmp_path / "test.json").write_text(json.dumps(listed))
    held_out = {"name": "test", "role": "held_out", "format": "coco"}
    held_out |= {"path": str(tmp_path / "test.json"), "root": str(tmp_path / "images")}
    recipe = parse_recipe(photos | {"sources": [*photos["sources"], held_out]})
    (problem,) = check_recipe(recipe).problems
    assert "'test': none of the image files" in problem and "images/0.jpg" in problem
    (tmp_path / "images").mkdir()
    for name, (_, content, _) in zip(names, pictures(3), strict=False):
        (tmp_path / "images" / name).write_bytes(content)
    checked = check_recipe(recipe)
    assert checked.problems == []
    warnings = {finding.code: finding for finding in checked.warnings}
    assert "1 of 4 sampled pictures of seeds and held-out" in warnings["failing_pictures"].text
    assert "`root`" in warnings["failing_pictures"].fix


@pytest.mark.parametrize("form", LOCAL)
def test_a_sample_has_a_picture_of_two_sources_once(form: str, tmp_path: Path) -> None:
    LOCAL[form](tmp_path / "photos", pictures(5))
    drafted = draft([str(tmp_path / "photos")] * 2)
    assert [survey.source.name for survey in drafted.surveys] == ["photos", "photos-2"]
    assert (drafted.trial.pictures, drafted.trial.stored) == (5, 5)


def test_problems_are_listed_together(photos: Spec, tmp_path: Path) -> None:
    lists = LISTS["csv"](tmp_path, ["http://a.example/1.jpg"])
    listed = {"name": "l", "role": "pool", "format": "csv", "path": str(lists)}
    sources = [
        {"name": "gone", "role": "pool", "format": "folder", "path": str(tmp_path / "nowhere")},
        listed | {"columns": {"url": "URL"}},
        listed | {"name": "m", "columns": {"url": "no_such_column"}},
    ]
    recipe = parse_recipe(photos | {"sources": sources})
    problems = "\n".join(check_recipe(recipe, str(tmp_path / "store")).problems)
    for part in ("nowhere", "no column 'no_such_column'", "fetch.contact is missing"):
        assert problems.count(part) == 1


def test_types_of_columns_are_checked(tmp_path: Path) -> None:
    LOCAL["embedded"](tmp_path / "a", pictures(3))
    source = {"name": "a", "role": "pool", "format": "parquet", "path": str(tmp_path / "a")}
    recipe = parse_recipe({"name": "a", "sources": [source | {"columns": {"image": "text"}}]})
    assert "has the type string" in "\n".join(check_recipe(recipe).problems)


@pytest.mark.parametrize(
    ("mapped", "values", "why"),
    [
        ("path", ("https://a.example/1.jpg", "https://a.example/2.jpg"), "map its column to `url`"),
        ("url", ("a.example/1.jpg", "//a.example/2.jpg"), "bad_scheme (a.example/1.jpg)"),
        ("url", ("http://", "http://[1/2.jpg"), "bad_url"),
    ],
)
def test_rows_that_ingest_would_drop_are_bad_rows(
    mapped: str, values: tuple[str, str], why: str, tmp_path: Path
) -> None:
    """A sound row beside them is a row of its own; without one the run would stop."""
    checked = {}
    for sound in ([], ["https://a.example/3.jpg"]):
        rows = [{mapped: value} for value in values] + [{"url": url} for url in sound]
        lists = tmp_path / f"{len(sound)}.jsonl"
        lists.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        source = {"name": "l", "role": "pool", "format": "jsonl", "path": str(lists)}
        columns = {"url": "url", mapped: mapped} if sound else {mapped: mapped}
        spec = {"name": "a", "sources": [source | {"columns": columns}]}
        recipe = parse_recipe(spec | {"fetch": {"contact": "crawl@a.example"}})
        checked[len(sound)] = check_recipe(recipe, pictures=0)
    for result in checked.values():
        (bad,) = (each for each in result.warnings if each.code == "unreadable_rows")
        assert why in bad.text
        assert result.to_json()["sources"][0]["bad_rows"] == 2
        assert result.to_json()["sources"][0]["with_local_image"] == 0
    assert [why in problem for problem in checked[0].problems] == [True]
    assert checked[1].problems == []


def test_java_is_looked_for(photos: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    checked = check_recipe(parse_recipe(photos), pictures=0)
    assert ["Java" in problem for problem in checked.problems] == [True]


@pytest.mark.parametrize("gpus", [(), ("cuda:0", "cuda:1")])
def test_the_gpus_of_this_machine_are_shown_and_counted(
    gpus: tuple[str, ...], photos: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch and the files of drivers would tell them."""
    monkeypatch.setattr("curation.inspect.check.machine.local_devices", lambda: gpus or ("cpu",))
    monkeypatch.setenv("COLUMNS", "400")
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(photos))
    command = ["check", str(path), "--sample", "0"]
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0, printed.output
    assert f" cores, {', '.join(gpus) or 'no GPU'}, " in printed.stdout
    checked = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert checked["machine"]["gpus"] == [*gpus]
    assert (checked["estimate"]["gpu_seconds"] > 0) == bool(gpus)
    if gpus:
        # The processor embeds nothing.
        assert checked["machine"]["slow_precisions"] == {}


def test_a_large_list_is_estimated(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"http://a.example/{n:06d}.jpg\n" for n in range(9000)))
    source = Source(name="a", role="pool", format="txt", path=str(tmp_path / "a.txt"))
    estimate = survey(source, OutboundParams(), most=500)
    assert (len(estimate.read), estimate.is_exact) == (500, False)
    assert 0.7 * 9000 < estimate.rows < 1.3 * 9000
    parquet = LISTS["parquet"](tmp_path, [f"http://a.example/{n}.jpg" for n in range(3000)])
    columns: Any = {"url": "URL"}
    listed = Source(name="a", role="pool", format="parquet", path=str(parquet), columns=columns)
    assert survey(listed, OutboundParams(), most=100).rows == 3000


@contextmanager
def workers_here(*arguments: Any, **options: Any) -> Iterator[InProcess]:
    """Workers in this process, in place of those on Spark."""
    yield InProcess()


def test_a_run_shows_the_warnings_once(
    photos: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.launch.spark_workers", workers_here)
    monkeypatch.setenv("COLUMNS", "400")
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(photos, sort_keys=False))
    command = ["run", str(path), "--store", str(tmp_path / "store"), "--until", "ingest"]
    first, second = (CliRunner().invoke(app, command) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    expected = warnings_before_run(parse_recipe(photos))
    assert {finding.code for finding in expected} == {"no_retrieve", "first_run_encoder"}
    assert WITHOUT_ARMS in CliRunner().invoke(app, ["plan", str(path)]).stdout
    for finding in expected:
        assert first.stderr.count(str(finding)) == 1
        assert str(finding) not in second.stderr


def test_a_run_warns_of_a_slow_precision_where_it_embeds(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Mock(return_value={"bf16": 9.0})
    monkeypatch.setattr("curation.inspect.check.check.slow_precisions", measured)
    plain, precise = base(), base()
    encoder = {"model": "timm/vit_small_patch14_dinov2.lvd142m", "weights": "a.safetensors"}
    for spec, precision in ((plain, "fp32"), (precise, "bf16")):
        others = spec["embed"]["encoders"]
        spec["embed"] = {"encoders": others | {"semantic": encoder | {"precision": precision}}}
    shown = [
        [finding.code for finding in warnings_before_run(parse_recipe(spec), here)]
        for spec in (plain, precise)
        for here in (False, True)
    ]
    assert ["slow_precision" in codes for codes in shown] == [False, False, False, True]
    # It takes seconds, and is not asked of a recipe that names no precision.
    assert measured.call_count == 1


def test_the_warnings_of_a_run_need_neither_downloads_nor_decoders(root: Path) -> None:
    script = (
        "import sys, curation.cli.run_commands, curation.inspect.check.check\n"
        "heavy = {'aiohttp', 'cv2', 'torch', 'PIL', 'pyspark'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-P", "-c", script], check=True, env=environment)
