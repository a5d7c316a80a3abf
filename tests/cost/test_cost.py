"""The cost of a recipe against figures computed by hand, and how it grows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from curation.algorithms.knn.choice import choose_join
from curation.cli import app
from curation.cli.facts.plans import PlanCost
from curation.errors import RecipeError
from curation.flow import STAGES
from curation.inspect.cost.clusters import training_bytes
from curation.inspect.cost.console import format_si
from curation.inspect.cost.encoder_profiles import EncoderProfile, profile_encoders
from curation.inspect.cost.estimate import estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.recipe_cost import cost_of, parse_assumptions
from curation.inspect.cost.work import PART_ON_DRIVER, Work
from curation.inspect.cost.workload import STAGE_WORK, work_of_stages
from curation.recipe import Recipe, load_recipe, parse_recipe
from curation.stages.retrieve.strategies import STRATEGIES, StrategyEntry
from curation.stages.retrieve.strategies.arm import SeededArm

ENCODERS = {"semantic": EncoderProfile(dim=100, flop=1e9)}
ASSUMPTIONS = Assumptions(fetched=0.5, distinct=0.8, clean=0.5, rows_per_fragment=1000)
RATES = Rates(
    measured_on="paper",
    ingest_rows=1e4,
    fetch_rows=10,
    screen_images=100,
    decode_images=200,
    hash_comparisons=1e9,
    compared_pairs=50,
    table_mb=100,
    cpu_gflop=50,
    cpu_product_gflop=50,
    cell_gflop=20,
    near_cell_gflop=20,
    gpu_gflop=5000,
    gpu_product_gflop=4000,
)
PRICES = Prices(core_hour=0.1, gpu_hour=2.0, stored_tb_month=20, received_tb=5)


def recipe(pool: int = 100_000, **blocks: Any) -> Recipe:
    columns = {"image": "image"}
    spec = {
        "name": "cost",
        "sources": [
            {"name": "web", "role": "pool", "format": "parquet", "path": "p", "count": pool},
            {"name": "birds", "role": "seed", "format": "parquet", "path": "s", "count": 500},
            {"name": "test", "role": "held_out", "format": "parquet", "path": "t", "count": 100},
        ],
        "embed": {"encoders": {"semantic": {"model": "vit_micro"}}},
        "dedup": {"near": {"encoder": "semantic"}},
        "cluster": {"levels": [100], "iterations": 10, "max_points_per_centroid": 50},
        "retrieve": [{"name": "near", "seeds": "birds", "strategy": "sample", "k": 8}],
    }
    sources: Any = spec["sources"]
    for source in sources:
        source["columns"] = columns
    return parse_recipe(spec | blocks)


def by_stage(
    spec: Recipe, encoders: dict[str, EncoderProfile], assumptions: Assumptions
) -> dict[str, Work]:
    return {work.stage: work for work in work_of_stages(spec, encoders, assumptions)}


def test_work_and_cost_computed_by_hand() -> None:
    works = by_stage(recipe(), ENCODERS, ASSUMPTIONS)
    images = 50_000 + 500 + 100
    assert works["ingest"].rows == 100_600
    assert works["fetch"].received == images * 150 * 1024
    assert works["embed"].model_flop == images * 1e9
    assert works["embed"].stored == images * 240
    assert works["neighbours"].product_flop == 2 * 100 * (50_000 * images + 100 * 500)
    assert works["verify"].rows == images * 4 / 2
    # 5,000 of the 20,000 eligible images, ten iterations and a last pass.
    assert works["cluster"].product_flop == 2 * 5000 * 100 * 100 * 11
    assert works["assign"].product_flop == 2 * images * 100 * 100
    # An exact search is a product, and runs on a GPU where there is one.
    assert works["match"].product_flop == 2 * 500 * 20_000 * 100
    assert works["match"].cell_flop == 0
    assert works["assemble"].rows == 4000
    costs = {c.work.stage: c for c in estimate(list(works.values()), RATES, PRICES, months=2)}
    embed = costs["embed"]
    assert embed.gpu_hours == pytest.approx(images * 1e9 / 5e12 / 3600)
    seconds = images / 200 + images * 240 / 1e8
    assert embed.cpu_hours == pytest.approx(seconds / 3600)
    assert embed.money == pytest.approx(
        embed.cpu_hours * 0.1 + embed.gpu_hours * 2 + images * 240 / 1e12 * 20 * 2
    )
    assign, flop = costs["assign"], works["assign"].product_flop
    assert assign.gpu_hours == pytest.approx(flop / 4e12 / 3600)
    # Without a GPU the model runs on cores.
    (on_cpu,) = estimate([works["embed"]], RATES.without_gpu(), PRICES, months=0)
    assert on_cpu.gpu_hours == 0
    assert on_cpu.cpu_hours == pytest.approx((seconds + images * 1e9 / 5e10) / 3600)


def test_the_device_of_a_stage_is_said() -> None:
    works = by_stage(recipe(), ENCODERS, ASSUMPTIONS)
    models_alone = RATES.model_copy(update={"gpu_product_gflop": None})
    for rates, embed, assign in (
        (RATES, "GPU", "GPU"),
        (models_alone, "GPU", "CPU"),
        (RATES.without_gpu(), "CPU", "CPU"),
    ):
        costs = {c.work.stage: c for c in estimate(list(works.values()), rates, PRICES, 1)}
        assert (costs["embed"].device, costs["assign"].device) == (embed, assign)
        assert costs["cluster"].device == costs["neighbours"].device == assign
        assert costs["fetch"].device == ""
        vector_mb = works["assign"].units_by_rate["table_mb"]
        # Two operations of a product, and two bytes of a vector, for each number of a vector.
        assert vector_mb == works["assign"].product_flop / 100 / 1e6
        table_mb = vector_mb + (works["assign"].stored + works["assign"].moved) / 1e6
        bytes_hours = table_mb / 100 / 3600
        gflop = costs["assign"].gpu_hours * 4000 + (costs["assign"].cpu_hours - bytes_hours) * 50
        # Products are counted once, wherever they run.
        assert gflop == pytest.approx(works["assign"].product_flop / 3600e9)


def test_the_driver_holds_what_trains_a_quantiser_and_the_pairs_of_few_hashes() -> None:
    few, many = (by_stage(recipe(n), ENCODERS, ASSUMPTIONS)["neighbours"] for n in (10**4, 10**7))
    # Half of the pool can be fetched; hashes have 4 pairs each.
    fragments = (10**4 + 600) / 1000
    pairs = 80 * 4 * (5_000 + 500 + 100)
    # One task joins all vectors, and one merges their pairs.
    assert few.driver == pytest.approx(pairs + (fragments + 2) * PART_ON_DRIVER, rel=1e-3)
    spec = recipe(10**7)
    choice = choose_join(spec.dedup.vector_levels["near"], 5_000_600, 100)
    points = 64 * choice.cells
    assert choice.join == "cells"
    # The sample twice, and what k-means holds besides its points.
    training = 2 * 2 * 100 * points + training_bytes(choice.cells, points, 100)
    fragments = (10**7 + 600) / 1000
    # Tasks of the joins by cells and of hashes, and those that merge: a hundred or two.
    assert 0 < many.driver - training - fragments * PART_ON_DRIVER < 300 * PART_ON_DRIVER


def test_the_driver_knows_all_tasks_of_a_join() -> None:
    """An exact join of many rows has a task for every two blocks, more than a driver can hold."""
    exact = {"near": {"encoder": "semantic", "join": "exact"}, "perceptual": None}
    some, many = (
        by_stage(recipe(n, dedup=exact), ENCODERS, ASSUMPTIONS)["neighbours"].driver
        for n in (10**8, 10**9)
    )
    # A tenth of a million rows are a block; half of the rows can be fetched.
    assert some == pytest.approx((500.0**2 + 10**5 + 100) * PART_ON_DRIVER, rel=0.01)
    assert many > 90 * (some - 10**5 * PART_ON_DRIVER)
    # Hashes of which a cell has more than a task can hold are compared share by share.
    hashes = {"near": None, "perceptual": {"max_distance": 31}}
    few, many = (
        by_stage(recipe(2 * n, dedup=hashes), ENCODERS, ASSUMPTIONS)["neighbours"].driver
        - (2 * n / 1000) * PART_ON_DRIVER
        for n in (500_000_000, 17_000_000_000)
    )
    assert few < 6_000 * PART_ON_DRIVER
    # 33.2 times as many hashes as a task can hold are in each of 4,096 cells.
    assert 4_096 * 34**2 * PART_ON_DRIVER < many < 1.02 * 4_096 * 34**2 * PART_ON_DRIVER


def test_how_work_grows_with_the_pool() -> None:
    small, large = (by_stage(recipe(pool), ENCODERS, ASSUMPTIONS) for pool in (10**6, 10**7))
    growth = {s: large[s].model_flop / (small[s].model_flop or 1) for s in ("embed",)}
    assert growth["embed"] == pytest.approx(10, rel=0.01)
    exact = by_stage(recipe(10**5), ENCODERS, ASSUMPTIONS)["neighbours"].product_flop
    assert small["neighbours"].product_flop / exact == pytest.approx(100, rel=0.02)
    # Ten times the pool is joined by cells, which cost far less than all pairs.
    assert large["neighbours"].product_flop < small["neighbours"].product_flop
    assert large["verify"].rows / small["verify"].rows == pytest.approx(10, rel=0.01)
    # A sample of a fixed size trains the centroids.
    assert large["cluster"].product_flop == small["cluster"].product_flop
    assert large["assemble"].stored == small["assemble"].stored


def test_levels_and_an_index_change_the_work() -> None:
    one = by_stage(recipe(), ENCODERS, ASSUMPTIONS)
    levels = {"levels": [100, 10], "iterations": 10, "max_points_per_centroid": 50}
    two = by_stage(recipe(cluster=levels), ENCODERS, ASSUMPTIONS)
    # Ten rounds of eleven passes and one assignment: the first over 100 centroids, the others over the
    # five nearest to each of ten.
    pairs = 10 * (100 * 11 + 9 * 50 * 11 + 10 * 100)
    assert two["cluster"].product_flop - one["cluster"].product_flop == 2 * 100 * pairs
    split = by_stage(recipe(cluster=levels | {"splits": 4}), ENCODERS, ASSUMPTIONS)
    spared = 2 * 5000 * 100 * 100 * 11 * (1 - 1 / 4)
    assert two["cluster"].product_flop - split["cluster"].product_flop == spared
    drawn = by_stage(recipe(cluster=levels | {"start": "kmeans++"}), ENCODERS, ASSUMPTIONS)
    # 1,600 points for 100 centroids, then in each round 100 points for ten; in float64.
    assert drawn["cluster"].cpu_flop == 2 * 2 * 100 * (1600 * 100 + 10 * 100 * 10)
    ivf = by_stage(
        recipe(match={"index": "ivf_pq", "nlist": 64, "nprobe": 4}), ENCODERS, ASSUMPTIONS
    )
    # Of each query the lists are found once, and a sixteenth of the pool is compared; the recall of a
    # sample of 256 is measured exactly.
    assert ivf["match"].cell_flop == 2 * 100 * (500 * (64 + 20_000 / 16) + 256 * 20_000)
    assert ivf["match"].product_flop == 0


def test_every_stage_has_a_cost() -> None:
    assert set(STAGE_WORK) == set(STAGES)
    assert [work.stage for work in work_of_stages(recipe(), ENCODERS, ASSUMPTIONS)] == list(STAGES)


def test_a_stage_without_a_cost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(STAGE_WORK, "tally")
    with pytest.raises(RecipeError, match=r"'tally' .*curation/inspect/cost/workload\.py"):
        work_of_stages(recipe(), ENCODERS, ASSUMPTIONS)


def test_counts_that_are_not_declared_are_an_error() -> None:
    spec = recipe().model_dump(exclude_none=True)
    without = [{k: v for k, v in s.items() if k != "count"} for s in spec["sources"]]
    with pytest.raises(RecipeError, match="do not declare it: web, birds, test"):
        work_of_stages(parse_recipe(spec | {"sources": without}), ENCODERS, ASSUMPTIONS)


def test_an_arm_that_does_not_say_what_it_adds_is_named() -> None:
    cells = {"name": "cells", "seeds": "birds", "strategy": "cluster"}
    near = {"name": "near", "seeds": "birds", "strategy": "sample"}
    with pytest.raises(RecipeError) as error:
        work_of_stages(recipe(retrieve=[near, cells]), ENCODERS, ASSUMPTIONS)
    assert "arm 'cells' (strategy 'cluster'): add `expected_clusters` to the arm" in str(
        error.value
    )
    assert "'near'" not in str(error.value)
    declared = recipe(retrieve=[near, cells | {"expected_clusters": 2, "per_cluster": 10}])
    works = by_stage(declared, ENCODERS, ASSUMPTIONS)
    assert works["retrieve"].rows == 4 * 500 + 2 * 10


@pytest.fixture
def plugin_strategy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A strategy of a plug-in whose arm leaves `expected` to the base class."""
    module: Any = ModuleType("plugin_strategy")
    module.StrategyArm = type("StrategyArm", (SeededArm,), {})
    module.claim = lambda arm, evidence, seed: None
    monkeypatch.setitem(sys.modules, "plugin_strategy", module)
    STRATEGIES.add("plugged", StrategyEntry(module="plugin_strategy"))
    yield "plugged"
    STRATEGIES.remove("plugged")


def test_an_arm_of_a_plugin_that_does_not_say_what_it_adds_is_named(plugin_strategy: str) -> None:
    arms = [{"name": "mine", "seeds": "birds", "strategy": plugin_strategy}]
    with pytest.raises(RecipeError) as error:
        work_of_stages(recipe(retrieve=arms), ENCODERS, ASSUMPTIONS)
    assert "arm 'mine' (strategy 'plugged')" in str(error.value)
    assert "`StrategyArm.expected` returns None" in str(error.value)
    assert "in plugin_strategy" in str(error.value)
    assert "cluster" not in str(error.value)


def test_assumptions_that_do_not_exist_or_cannot_be_are_errors() -> None:
    with pytest.raises(RecipeError, match="unknown assumption 'fetchd'"):
        parse_assumptions(["fetchd=1"])
    with pytest.raises(RecipeError, match="less than or equal to 1"):
        parse_assumptions(["fetched=7"])
    assert parse_assumptions(["fetched=0.25"]).fetched == 0.25


def test_flop_of_encoders_is_counted_without_weights() -> None:
    """ViT-B/16 at 224 px takes 17.6 billion multiply-adds: twice as many operations."""
    spec = {"semantic": {"model": "timm/vit_base_patch16_224"}, "small": {"model": "vit_micro"}}
    profiles = profile_encoders(recipe(embed={"encoders": spec}, cluster={"encoder": "semantic"}))
    assert profiles["semantic"].dim == 768
    assert profiles["semantic"].flop == pytest.approx(2 * 17.6e9, rel=0.03)
    assert profiles["small"].dim == 192
    assert profiles["small"].flop < profiles["semantic"].flop / 10


def test_the_paper_has_a_cost(root: Path) -> None:
    path = str(root / "conf" / "recipes" / "lvd142m.yaml")
    result = CliRunner().invoke(app, ["plan", path, "--cost", "--json", "--assume", "fetched=1"])
    assert result.exit_code == 0, result.output
    costs = json.loads(result.stdout)
    assert PlanCost.model_validate(costs).money > 0
    assert [s["stage"] for s in costs["stages"]][-1] == "assemble"
    rows = {s["stage"]: s["rows"] for s in costs["stages"]}
    assert rows["assemble"] == 142_109_386
    assert costs["money"] == pytest.approx(sum(s["money"] for s in costs["stages"]))
    searched = [s for s in costs["stages"] if s["stage"] in ("quantise", "index", "match")]
    for name in ("cpu_hours", "gpu_hours", "money"):
        total = sum(stage[name] for stage in searched)
        assert costs["searches"]["ivf_pq"][name] == pytest.approx(total)
    # 3.3e19 operations of a product.
    assert costs["searches"]["exact"]["gpu_hours"] == pytest.approx(23, rel=0.1)
    shown = CliRunner().invoke(app, ["plan", path, "--cost"])
    assert "on the driver" not in shown.output
    assert "Assumptions: fetched 0.6" in shown.output


ALL = ("fetched=1", "distinct=1", "clean=1")


@pytest.mark.parametrize("name", ["lvd142m", "lvd1689m", "vo743m"])
def test_every_published_recipe_has_a_cost(name: str, root: Path) -> None:
    path = root / "conf" / "recipes" / f"{name}.yaml"
    parsed = load_recipe(str(path))
    cost = cost_of(parsed, None, None, ALL)
    by_name = {c.work.stage: c for c in cost.stages}
    for stage in ("embed", "cluster", "assign"):
        assert by_name[stage].device == "GPU"
        assert by_name[stage].gpu_hours > 0
    # Every hour follows from operations and a rate of the file.
    rates = cost.basis.rates
    assert rates.gpu_product_gflop is not None
    clustered = by_name["cluster"]
    assert clustered.gpu_hours == pytest.approx(
        clustered.work.product_flop / rates.gpu_product_gflop / 3600e9
    )


def test_the_clusters_of_vo_take_few_hours(root: Path) -> None:
    """1,284 hours of an A100 by the author's account; the formula of docs/methods.md by hand."""
    parsed = load_recipe(str(root / "conf" / "recipes" / "vo743m.yaml"))
    cost = {c.work.stage: c for c in cost_of(parsed, None, None, ALL).stages}["cluster"]
    finest = 743e6 * 100_000 * 51
    above = 0.0
    for below, size, nearest in ((1e7, 5e5, 10), (5e5, 5e4, 5), (5e4, 1e4, 3)):
        trained = below + 9 * min(below, nearest * size)
        above += size * (trained * 51 + 10 * below)
    assert cost.work.product_flop == pytest.approx(2 * 1024 * (finest + above))
    assert cost.gpu_hours < 15


def test_a_stage_that_no_driver_can_hold_is_named(root: Path, tmp_path: Path) -> None:
    """Dedup runs on workers, unless the recipe says that one machine has the memory."""
    spec = yaml.safe_load((root / "conf" / "recipes" / "lvd142m.yaml").read_text(encoding="utf-8"))
    spec["dedup"]["rows_at_once"] = 2_000_000_000
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    shown = CliRunner().invoke(app, ["plan", str(path), "--cost"])
    assert "dedup needs" in shown.output
    assert "on the driver" in shown.output


@pytest.mark.parametrize("name", ["lvd142m", "lvd1689m", "vo743m"])
def test_stages_above_the_memory_of_a_driver_are_named(name: str, root: Path) -> None:
    recipe = str(root / "conf" / "recipes" / f"{name}.yaml")
    shown = CliRunner().invoke(app, ["plan", recipe, "--cost", "--assume", "fetched=1"])
    named = re.findall(r"^(\w+) needs (\d+) GiB of memory", shown.output, re.MULTILINE)
    large = {"lvd1689m": [("neighbours", "38"), ("cluster", "162")]}
    assert named == large.get(name, [])


def test_the_default_files_are_valid() -> None:
    assert load_yaml(Prices, default_file("prices"))
    assert load_yaml(Rates, default_file("rates"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (999, "999"), (1300, "1.3k"), (1.3e9, "1.3G"), (3.5e21, "3.5Z")],
)
def test_format_si(value: float, text: str) -> None:
    assert format_si(value) == text


def test_what_a_recipe_does_not_do_costs_nothing() -> None:
    """The assumptions are of runs with held-out sets, near pairs, and arms without caps."""
    sets = recipe().sources
    both = by_stage(recipe(), ENCODERS, ASSUMPTIONS)
    assert both["match"].product_flop == 2 * 500 * 20_000 * 100
    for spec in (
        recipe().model_copy(update={"sources": [s for s in sets if s.role != "held_out"]}),
        recipe(dedup={"near": {"encoder": "semantic"}, "held_out": None}),
    ):
        assert by_stage(spec, ENCODERS, ASSUMPTIONS)["match"].product_flop == 2 * 500 * 40_000 * 100
    semantic = {"encoder": "semantic", "floor": 0.9}
    for dedup, pairs in (({"semantic": semantic}, 4 * 50_600), ({}, 0)):
        levels = dict.fromkeys(("perceptual", "near")) | dedup
        works = by_stage(recipe(dedup=levels), ENCODERS, ASSUMPTIONS)
        assert (works["neighbours"].rows, works["verify"].rows) == (pairs, 0)
    for limits, images in (
        ({"per_seed_set": {"birds": 30}}, 30),
        ({"per_seed_set": {"birds": 30}, "target": 20}, 20),
        ({"per_seed_set": {"birds": 9000}}, 4000),
    ):
        assert by_stage(recipe(balance=limits), ENCODERS, ASSUMPTIONS)["assemble"].rows == images
