"""The real flow on a small real web with hidden truth, with a real pretrained ViT."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curation.flow import plan
from curation.fragment import open_table
from curation.parallel import OnSpark
from curation.recipe import parse_recipe
from curation.runner import run_step
from curation.store import Store

# Domain and label precision of ViT-Tiny features, cosine, k = 4, as the data's own README states.
BASELINE = {
    "scenes": (0.91, 0.79),
    "flowers": (0.86, 0.76),
    "textures": (0.84, 0.67),
    "products": (0.99, 0.48),
    "objects10": (0.83, 0.80),
}
DOMAIN = {name: name for name in BASELINE} | {"objects10": "objects"}
K = 4

# Embedding nine thousand pictures takes minutes on two cores.
pytestmark = pytest.mark.timeout(1800)


def without_truth(table: pa.Table) -> pa.Table:
    hidden = ("gt_", "seed_set")
    return table.select([c for c in table.column_names if not c.startswith(hidden)])


@pytest.fixture(scope="module")
def spec(shared, tmp_path_factory):
    """The recipe, over files that hold no truth."""
    folder = tmp_path_factory.mktemp("web_mini")
    data = shared / "data" / "web_mini"
    pq.write_table(without_truth(pq.read_table(data / "pool.parquet")), folder / "pool.parquet")
    seeds = pq.read_table(data / "seeds.parquet")
    columns = {"image": "image", "caption": "caption", "key": "id"}
    place = {"format": "parquet", "columns": columns}
    sources = [{"name": "web", "role": "pool", "path": str(folder / "pool.parquet"), **place}]
    for name in BASELINE:
        path = folder / f"{name}.parquet"
        own = seeds.filter(pc.equal(seeds.column("seed_set"), name))
        pq.write_table(without_truth(own), path)
        sources.append({"name": name, "role": "seed", "path": str(path), **place})
    weights = str(shared / "models" / "vit_tiny_patch16_224.safetensors")
    encoder = {"model": "timm/vit_tiny_patch16_224", "weights": weights}
    return {
        "name": "web-mini",
        "sources": sources,
        "ingest": {"rows_per_fragment": 1000},
        "embed": {"encoders": {"semantic": encoder}},
        "retrieve": [
            {"name": name, "seeds": name, "strategy": "sample", "k": K} for name in BASELINE
        ],
    }


@pytest.fixture(scope="module")
def store(spec, spark, tmp_path_factory):
    """The store after a run with exact search."""
    opened = Store(tmp_path_factory.mktemp("web_mini_store"))
    run(spec, opened, spark)
    return opened


def run(spec, store, spark) -> None:
    for step in plan(parse_recipe(spec)):
        run_step(step, store, OnSpark(spark))


def precision(store, shared) -> pd.DataFrame:
    """Domain and label precision of each arm against the hidden truth."""
    data = shared / "data" / "web_mini"
    truth = ["id", "gt_domain", "gt_label"]
    pool = pq.read_table(data / "pool.parquet", columns=truth).to_pandas().set_index("id")
    seeds = pq.read_table(data / "seeds.parquet", columns=truth).to_pandas().set_index("id")
    images = open_table(store, "images").read(["image_id", "role", "source_key"]).to_pandas()
    key = images.drop_duplicates(["image_id", "role"]).set_index(["role", "image_id"])["source_key"]
    claims = open_table(store, "claims").read(["arm", "image_id", "seed_image_id"]).to_pandas()
    found = pool.loc[key["pool"].loc[claims["image_id"]]].reset_index()
    asked = seeds.loc[key["seed"].loc[claims["seed_image_id"]]].reset_index()
    claims["domain"] = (found["gt_domain"] == claims["arm"].map(DOMAIN)).to_numpy()
    claims["label"] = (found["gt_label"] == asked["gt_label"]).to_numpy()
    return claims.groupby("arm")[["domain", "label"]].mean()


def test_precision_of_sample_equals_the_baseline(store, shared):
    found = precision(store, shared)
    for name, (domain, label) in BASELINE.items():
        assert found.loc[name, "domain"] == pytest.approx(domain, abs=0.02), found
        assert found.loc[name, "label"] == pytest.approx(label, abs=0.03), found


def test_planted_copies(store, shared):
    """Exact copies are all found, easy ones mostly; no natural look-alike is merged by mistake."""
    data = shared / "data" / "web_mini"
    images = open_table(store, "images").read(["pair_id", "role", "source_key"]).to_pandas()
    copies = open_table(store, "copies").read(["pair_id", "representative_id"]).to_pandas()
    pool = images[images["role"] == "pool"].merge(copies, on="pair_id").set_index("source_key")
    stands = pool["representative_id"]
    planted = pq.read_table(data / "planted_dups.parquet").to_pandas()
    same = stands.loc[planted["dup_id"]].to_numpy() == stands.loc[planted["orig_id"]].to_numpy()
    recall = pd.Series(same).groupby(planted["strength"].to_numpy()).mean()
    assert recall["exact"] == 1
    assert recall["easy"] >= 0.9, recall
    pairs = pq.read_table(data / "natural_pairs.parquet").to_pandas()
    hard = pairs[
        (pairs["verdict"] == "lookalike") & (pairs["set_a"] == "pool") & (pairs["set_b"] == "pool")
    ]
    merged = stands.loc[hard["id_a"]].to_numpy() == stands.loc[hard["id_b"]].to_numpy()
    assert merged.mean() < 0.1, hard[merged][["id_a", "id_b", "source_a", "cos_vit", "dhash256"]]


def test_forced_ivf_pq_over_several_shards_reports_its_recall(spec, store, shared, spark):
    index = {"index": "ivf_pq", "nlist": 64, "nprobe": 16, "subquantizers": 24, "refine": 8}
    exact = precision(store, shared)
    matches = open_table(store, "matches").read().to_pandas()
    run(spec | {"match": index}, store, spark)
    stats = open_table(store, "matches").manifest.stats
    assert stats["shards"] == 8
    assert stats["index"] == "ivf_pq"
    again = open_table(store, "matches").read().to_pandas()
    pairs = [set(zip(m["seed_image_id"], m["image_id"], strict=True)) for m in (matches, again)]
    measured = len(pairs[0] & pairs[1]) / len(pairs[0])
    assert stats["recall"] == pytest.approx(measured, abs=0.03)
    assert stats["recall"] > 0.9
    assert (precision(store, shared) - exact).abs().to_numpy().max() < 0.03
