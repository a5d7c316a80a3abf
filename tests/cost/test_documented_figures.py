"""Figures of the documentation that follow from the plan are those of the plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curation.inspect.cost.estimate import Cost, estimate
from curation.inspect.cost.joins import hash_join
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.recipe_cost import cost_of
from curation.inspect.cost.workload import cost_inputs, work_of_stages
from curation.recipe import load_recipe, parse_recipe

from .test_cost import ALL


def cells(page: str, row: str) -> list[str]:
    """The cells of the row of a table that begins so."""
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def number(text: str, unit: str) -> float:
    """The number before a unit."""
    found = re.search(rf"([\d.,]+) ?{re.escape(unit)}", text)
    assert found is not None, text
    return float(found[1].replace(",", ""))


@pytest.fixture(scope="module")
def rates() -> Rates:
    return load_yaml(Rates, default_file("rates"))


def test_copies_at_scale(root: Path, rates: Rates) -> None:
    page = (root / "docs" / "copies-at-scale.md").read_text(encoding="utf-8")
    paper = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    spec = paper.model_dump(exclude_none=True)
    spec["dedup"]["verify"] = {}
    recipe, assumed = parse_recipe(spec), Assumptions(fetched=1)
    encoders = cost_of(paper, None, None, ALL).basis.encoders
    prices = load_yaml(Prices, default_file("prices"))
    costs: dict[str, Cost] = {
        cost.work.stage: cost
        for cost in estimate(work_of_stages(recipe, encoders, assumed), rates, prices, 1)
    }
    inputs = cost_inputs(recipe, encoders, assumed)
    hashes, images = hash_join(inputs), inputs.counts.images
    row = cells(page, "hashes within 31 bits")
    assert number(row[2], "TB sent") == pytest.approx(hashes.moved / 1e12, rel=0.02)
    hours = hashes.comparisons / rates.hash_comparisons / 3600
    assert number(row[3], "") == pytest.approx(hours, rel=0.01)
    row, verify = cells(page, "verify"), costs["verify"]
    assert number(row[1], "billion") == pytest.approx(verify.work.rows / 1e9, rel=0.02)
    assert number(row[2], "TB stored") == pytest.approx(verify.work.stored / 1e12, rel=0.02)
    assert number(row[2], "TB sent") == pytest.approx(verify.work.moved / 1e12, rel=0.02)
    assert number(row[5].partition("plan")[2], "") == pytest.approx(verify.cpu_hours, rel=0.01)
    decoding = images / rates.decode_images / 3600
    assert number(cells(page, "embed")[3], "to decode") == pytest.approx(decoding, rel=0.01)
    assert number(page, "GFLOP/s in large products") == round(rates.cpu_product_gflop)
    assert number(page, "in\njoins of cells") == round(rates.near_cell_gflop)
    assert number(page, "million comparisons") == round(rates.hash_comparisons / 1e6)
    assert number(page, "GB of them for verify") == round(verify.work.driver / 1e9)


def test_the_clusters_of_vo(root: Path, rates: Rates) -> None:
    page = (root / "docs" / "methods.md").read_text(encoding="utf-8")
    recipe = load_recipe(root / "conf" / "recipes" / "vo743m.yaml")
    costs = {cost.work.stage: cost for cost in cost_of(recipe, None, None, ALL).stages}
    hours = costs["cluster"].gpu_hours
    assert number(page, "GPU-hours together") == pytest.approx(hours, rel=0.01)
    assert number(page, "hours.\n") == pytest.approx(costs["assign"].gpu_hours, rel=0.01)
    assert rates.gpu_product_gflop is not None
    without_splits = 2 * 1024 * 743e6 * 1e7 * 51 / rates.gpu_product_gflop / 3600e9
    assert number(page.partition("Without splits")[2], "hours") == pytest.approx(
        without_splits, rel=0.01
    )
