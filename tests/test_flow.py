"""Flow, jobs and schemas agree, and the plan depends on the recipe alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curation.engine.contract import contracts
from curation.flow import STAGES, plan, run_fingerprint
from curation.recipe import Recipe, load_recipe, parse_recipe

SPEC: dict[str, Any] = {
    "name": "small",
    "sources": [
        {
            "name": "web",
            "role": "pool",
            "format": "parquet",
            "path": "p",
            "columns": {"url": "URL"},
        },
        {"name": "flowers", "role": "seed", "format": "folder", "path": "s"},
    ],
    "retrieve": [{"name": "a", "seeds": "flowers", "strategy": "sample", "k": 2}],
}


def changed(**blocks: Any) -> Recipe:
    return parse_recipe(SPEC | blocks)


def fingerprints(recipe: Recipe) -> dict[str, str]:
    return {s.name: s.fingerprint for s in plan(recipe)}


def test_jobs_schemas_and_flow_agree(root: Path) -> None:
    jobs = sorted(p.name for p in (root / "jobs").glob("*.py"))
    assert jobs == [*(s.job.removeprefix("jobs/") for s in STAGES.values()), "run.py"]
    schemas = sorted(p.name for p in (root / "schemas").glob("*.yaml"))
    assert schemas == [f"{s.number:02d}_{s.contract}.yaml" for s in STAGES.values()]
    assert list(contracts()) == [s.contract for s in STAGES.values()]
    for stage in STAGES.values():
        assert f'main("{stage.name}")' in (root / stage.job).read_text()


def test_every_table_is_written_before_it_is_read() -> None:
    written: set[str] = set()
    for stage in STAGES.values():
        assert {read.argument for read in stage.reads} <= written, stage.name
        written.add(stage.contract)


def test_plan_needs_only_the_standard_library_pydantic_and_yaml(root: Path) -> None:
    """Airflow parses the plan in an environment without numpy, pyarrow, torch or Spark."""
    code = (
        "import sys\n"
        "for name in ('numpy', 'pyarrow', 'torch', 'pyspark', 'pandas', 'faiss', 'PIL', 'timm'):\n"
        "    sys.modules[name] = None\n"
        "from curation.flow import STAGES, plan\n"
        "from curation.recipe import load_recipe\n"
        "from curation.engine.cluster import load_cluster, spark_conf\n"
        "assert len(plan(load_recipe('conf/recipes/lvd142m.yaml'))) == len(STAGES)\n"
        "spark_conf(load_cluster('local'), 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize(
    ("blocks", "first"),
    [
        ({"ingest": {"max_url_length": 100}}, "ingest"),
        ({"fetch": {"retries": 3}}, "fetch"),
        ({"screen": {"filters": ["aspect"]}}, "screen"),
        ({"embed": {"batch_size": 7}}, "embed"),
        ({"dedup": {"near": {"k": 3}}}, "neighbours"),
        ({"dedup": {"verify": {"floor": 0.6}}}, "verify"),
        ({"dedup": {"verify": {"hue": 5}}}, "dedup"),
        ({"dedup": {"near": {"at_least": 0.9}}}, "dedup"),
        ({"select": {"aspect": {"at_most": 2}}}, "select"),
        ({"cluster": {"levels": [3]}}, "cluster"),
        ({"match": {"index": "ivf_pq"}}, "quantise"),
        ({"match": {"recall_queries": 3}}, "match"),
        ({"assemble": {"pixels": True}}, "assemble"),
    ],
)
def test_a_change_alters_its_stage_and_later_ones_and_none_before(
    blocks: dict[str, Any], first: str
) -> None:
    before, after = fingerprints(changed()), fingerprints(changed(**blocks))
    changed_steps = [name for name in before if before[name] != after[name]]
    assert changed_steps[0] == first
    assert changed_steps[-1] == "assemble"
    assert run_fingerprint(changed()) != run_fingerprint(changed(**blocks))


def test_execution_only_fields_change_no_fingerprint() -> None:
    other = changed(
        ingest={"rows_per_fragment": 7},
        fetch={"concurrency": 3},
        assemble={"rows_per_file": 11, "bytes_per_file": 4096},
    )
    assert fingerprints(other) == fingerprints(changed())
    assert run_fingerprint(other) == run_fingerprint(changed())


def test_without_arms_a_plan_has_one_that_takes_the_eligible_pool() -> None:
    recipe = parse_recipe({k: v for k, v in SPEC.items() if k != "retrieve"})
    assert [step.name for step in plan(recipe)] == list(STAGES)
    assert [(arm.name, arm.strategy) for arm in recipe.arms] == [("everything", "everything")]
    explicit = changed(retrieve=[{"name": "everything", "strategy": "everything"}])
    assert fingerprints(recipe) == fingerprints(explicit)


@pytest.mark.parametrize(
    ("source", "assemble", "kept"),
    [
        ({"format": "folder"}, {}, "without_url"),
        ({"format": "webdataset"}, {}, "without_url"),
        ({"format": "parquet", "columns": {"image": "jpg", "url": "u"}}, {}, "without_url"),
        ({"format": "csv", "columns": {"path": "file"}}, {}, "without_url"),
        ({"format": "csv", "columns": {"url": "u"}}, {}, "none"),
        ({"format": "txt"}, {}, "none"),
        ({"format": "laion"}, {}, "none"),
        ({"format": "laion"}, {"pixels": True}, "all"),
        ({"format": "folder"}, {"pixels": False}, "none"),
    ],
)
def test_images_that_no_url_leads_to_are_kept(
    source: dict[str, Any], assemble: dict[str, Any], kept: str
) -> None:
    named = {"name": "web", "role": "pool", "path": "p"} | source
    recipe = parse_recipe({"name": "a", "sources": [named], "assemble": assemble})
    assert recipe.kept_pixels == kept


def test_one_step_writes_a_table_for_each_encoder() -> None:
    encoders = {"semantic": {"model": "vit_micro"}, "copy": {"model": "timm/test_vit"}}
    recipe = changed(embed={"encoders": encoders}, cluster={"encoder": "semantic"})
    steps = {s.name: s for s in plan(recipe)}
    assert steps["embed"].tables == ("embeddings.semantic", "embeddings.copy")
    assert steps["neighbours"].reads["embeddings"] == ("embeddings.copy",)
    assert steps["match"].reads["embeddings"] == ("embeddings.semantic",)


def test_lvd142m_total_follows_from_its_parts(root: Path) -> None:
    from curation.inspect.composition import expected_composition

    path = root / "conf" / "recipes" / "lvd142m.yaml"
    rows = expected_composition(load_recipe(path))
    assert len(rows) == 27
    assert sum(r["final"] for r in rows) == 142_109_386
    text = path.read_text()
    assert "142109386" not in text.replace(",", "").replace("_", "")
    by_arm = {r["arm"]: r for r in rows}
    assert by_arm["imagenet22k-sample"]["retrieved"] == 56_788_344
    assert by_arm["imagenet1k-sample"]["final"] == 40_997_344
    assert by_arm["amstertime-new"]["final"] == 960_000
    assert by_arm["met"]["retrieved"] == 62_860_000
