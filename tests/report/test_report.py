"""The report of a real run: escaped, self-contained, and with the numbers of its tables."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.inspect.composition import COUNTS, composition_of
from curation.inspect.lineage import trace
from curation.inspect.report.album import THUMBNAIL_SIDE, Album, shorten
from curation.inspect.report.build import objective_name, write_report
from curation.inspect.report.copies import summarise_copies
from curation.inspect.report.dropped import EXAMPLES, STATUS_AFTER, choose_examples
from curation.inspect.report.place import report_path
from curation.inspect.report.row_counts import count_dataset, count_stages
from curation.stages.retrieve.strategies import STRATEGIES
from curation.store.manifest import FragmentRecord, Manifest
from curation.store.manifest_file import write_manifest
from curation.store.store import Store
from tests.report.conftest import HOSTILE, Run, run_into
from tests.report.page import Page

FORBIDDEN = {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video"}


def read(run: Run) -> tuple[str, Page]:
    path = write_report(run.recipe, run.store)
    assert path == report_path(open_table(run.store, "dataset"))
    html = (run.store.storage.read(path) or b"").decode()
    return html, Page(html)


@pytest.fixture(scope="module")
def page(finished: Run) -> Page:
    return read(finished)[1]


def test_the_run_has_what_the_report_is_tested_on(finished: Run) -> None:
    books = open_table(finished.store, "eligible").manifest.counts
    assert {"copy_exact", "copy_perceptual", "contaminated", "min_side", "eligible"} <= set(
        books["pool"]
    )
    rows, total = composition_of(open_table(finished.store, "claims").manifest)
    assert total > 0 and any(r["capped"] for r in rows) and any(r["shortfall"] for r in rows)


def test_text_from_the_web_is_escaped(finished: Run) -> None:
    html, page = read(finished)
    assert "&lt;script&gt;alert(" in html and "<script" not in html
    assert "evil.example" in html
    for tag, attributes in page.elements:
        assert tag not in FORBIDDEN
        assert not [a for a in attributes if a.startswith("on")]


def test_nothing_is_loaded_from_outside(finished: Run) -> None:
    html, page = read(finished)
    for _, attributes in page.elements:
        for name in (
            "src",
            "href",
            "srcset",
            "data",
            "poster",
            "background",
            "action",
            "xlink:href",
        ):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style and "@import" not in style


def test_thumbnails_are_small_jpegs_of_what_they_show(page: Page) -> None:
    sources = list(page.images())
    assert len(sources) > 40
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.format == "JPEG" and max(image.size) <= THUMBNAIL_SIDE
    alts = {a["alt"] for t, a in page.elements if t == "img"}
    assert "seed 0" in alts or "seed 1" in alts


def test_the_composition_table_shows_every_number(finished: Run, page: Page) -> None:
    rows, total = composition_of(open_table(finished.store, "claims").manifest)
    shown = page.sections["composition"]
    at = shown.index(rows[0]["arm"])
    for row in rows:
        cells = [row["arm"], row["seed_set"], row["strategy"].replace("_", " ")]
        cells += [f"{value:,}" for value in (row[n] for n in COUNTS)]
        assert shown[at : at + len(cells)] == cells
        at += len(cells)
    images = open_table(finished.store, "dataset").rows
    assert images < total
    assert shown[at : at + 3] == ["total", f"{total:,}", f"{images:,}"]
    assert any("," in cell and cell.replace(",", "").isdigit() for cell in shown)


def test_the_composition_says_what_each_strategy_requests(finished: Run, page: Page) -> None:
    shown = page.sections["composition"]
    heading = shown.index("What “requested” means for each strategy")
    for strategy in {arm.strategy for arm in finished.recipe.retrieve}:
        at = shown.index(strategy.replace("_", " "), heading)
        assert shown[at + 1] == STRATEGIES[strategy].requested
    assert "k images for each eligible seed image" in shown


def test_what_a_plugin_requests_is_escaped(finished: Run) -> None:
    entry = STRATEGIES["sample"]
    STRATEGIES.add("sample", replace(entry, requested=HOSTILE))
    try:
        html, page = read(finished)
    finally:
        STRATEGIES.add("sample", entry)
    assert HOSTILE in page.sections["composition"] and HOSTILE not in html


def test_final_images_are_the_different_images_of_an_arm(finished: Run) -> None:
    claims = open_table(finished.store, "claims")
    rows, total = composition_of(claims.manifest)
    by_arm = claims.read().to_pandas().groupby("arm")["image_id"]
    assert {row["arm"]: row["final_images"] for row in rows} == by_arm.nunique().to_dict()
    assert {row["arm"]: row["final"] for row in rows} == by_arm.size().to_dict()
    # Two arms claim the same image, which counts in each of them.
    images = open_table(finished.store, "dataset").rows
    assert claims.manifest.stats["total"] == {"claims": total, "images": images}
    assert sum(row["final_images"] for row in rows) > images


def test_a_composition_of_before_images_were_counted_is_shown_without_them(finished: Run) -> None:
    manifest = open_table(finished.store, "claims").manifest
    rows = [
        {name: value for name, value in row.items() if name != "final_images"}
        for row in manifest.stats["composition"]
    ]
    earlier = replace(manifest, stats=manifest.stats | {"composition": rows})
    assert [row["final_images"] for row in composition_of(earlier)[0]] == [None] * len(rows)


def test_the_equation_shows_both_sums(finished: Run, page: Page) -> None:
    _, total = composition_of(open_table(finished.store, "claims").manifest)
    weight = sum(
        open_table(finished.store, "dataset").read(["weight"]).column("weight").to_pylist()
    )
    (line,) = [text for text in page.sections[""] if text.startswith("Σ final")]
    assert [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", line)] == [total, weight]


def test_composition_parquet_has_the_same_sums(finished: Run) -> None:
    path = write_report(finished.recipe, finished.store).replace(
        "report.html", "composition.parquet"
    )
    table = pq.read_table(io.BytesIO(finished.store.storage.read(path) or b""))
    rows, _ = composition_of(open_table(finished.store, "claims").manifest)
    assert table.to_pylist() == rows
    assert table.column_names == ["arm", "seed_set", "strategy", *COUNTS]
    assert {str(f.type) for f in table.schema} == {"string", "int64"}


def test_row_counts_balance_and_lead_from_pairs_to_dataset(finished: Run) -> None:
    lineage = trace(finished.recipe, finished.store)
    _, total = composition_of(lineage["claims"].manifest)
    counts = count_dataset(lineage, total)
    lines = {(line.stage, line.role): line for line in count_stages(lineage, counts)}
    assert all(x.rows_in == x.rows_out + x.rows_dropped for x in lines.values())
    for role in ("pool", "seed", "held_out"):
        way = [lines[stage, role] for stage in ("ingest", "fetch", "select")]
        assert [x.rows_in for x in way[1:]] == [x.rows_out for x in way[:-1]]
    assert lines["embed semantic", "all"].rows_in == sum(
        lines["fetch", role].rows_out for role in ("pool", "seed", "held_out")
    )
    assert lines["fetch", "pool"].rows_dropped == 1
    assert lines["select", "pool"].dropped["min_side"] == 1
    assert sum(x.rows_out for (s, _), x in lines.items() if s == "retrieve") == counts.rows


def test_contact_sheets_show_claims_with_their_similarity(finished: Run, page: Page) -> None:
    claims = open_table(finished.store, "claims").read().to_pandas()
    nearest = claims[claims["arm"] == "nearest"]
    shown = page.sections["retrieved"]
    at, end = shown.index("nearest"), shown.index("clusters")
    numbers = {t for t in shown[at:end] if re.fullmatch(r"0\.\d{3}|1\.000", t)}
    assert numbers and numbers <= {f"{s:.3f}" for s in nearest["similarity"]}


def test_copies_and_contaminations_are_shown(page: Page) -> None:
    assert "groups of copies" in page.sections["copies"]
    assert {"exact", "represents", "perceptual"} <= set(page.sections["copies"])
    assert {"bench", "bench in the pool", "1.000", "0.9999"} <= set(page.sections["held-out"])


def test_the_same_run_gives_the_same_bytes(finished: Run) -> None:
    assert read(finished)[0] == read(finished)[0]


def test_a_run_without_claims_copies_or_held_out_pictures(empty: Run) -> None:
    _, page = read(empty)
    assert "This arm claims no image." in page.sections["retrieved"]
    assert any("No copies" in text for text in page.sections["copies"])
    assert any("no held-out source" in text for text in page.sections["held-out"])
    assert any(t.endswith("dataset 0") for t in page.sections[""])
    # The shortfall of the target of `balance` belongs to no arm, and is shown too.
    assert any("0 of 12 images wanted, 12 short" in t for t in page.sections["composition"])


def test_the_drift_of_kept_centroids_is_shown(empty: Run) -> None:
    _, page = read(empty)
    (text,) = (t for t in page.sections["clusters"] if "centroids were" in t)
    assert "kept from an earlier run" in text
    assert "11.1 % of 9 sampled images were added or removed" in text


def test_a_report_on_another_run_is_refused(finished: Run) -> None:
    other = finished.recipe.model_copy(update={"seed": 7})
    with pytest.raises(StoreError, match="No run that finished made a dataset of recipe"):
        write_report(other, finished.store)


def _drop_a_row(manifest: dict[str, Any]) -> None:
    role = next(iter(manifest["counts"]))
    outcome = next(iter(manifest["counts"][role]))
    manifest["counts"][role][outcome] -= 1


def _lose_a_fragment(manifest: dict[str, Any]) -> None:
    lost = manifest["fragments"].pop()
    for role, outcomes in lost["counts"].items():
        for outcome, rows in outcomes.items():
            manifest["counts"][role][outcome] -= rows
            if not manifest["counts"][role][outcome]:
                del manifest["counts"][role][outcome]
        if not manifest["counts"][role]:
            del manifest["counts"][role]


def _call_a_row_lost(manifest: dict[str, Any]) -> None:
    """Move a row to a reason that no stage gives, in a record and in the sum of all records."""
    for books in (manifest["counts"], next(_pool_books(manifest))):
        passed = "ok" if "ok" in books["pool"] else "eligible"
        books["pool"] = dict(sorted((books["pool"] | {"zz_lost": 1}).items()))
        books["pool"][passed] -= 1


def _pool_books(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (r["counts"] for r in manifest["fragments"] if "pool" in r["counts"])


def _claim_more(manifest: dict[str, Any]) -> None:
    for row in manifest["stats"]["composition"]:
        row["retrieved"] += 1
        row["final"] += 1


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        ("pairs", _drop_a_row, "ingest"),
        ("images", _drop_a_row, "fetch"),
        ("embeddings.semantic", _drop_a_row, "embed"),
        ("eligible", _drop_a_row, "select"),
        ("images", _lose_a_fragment, "fetch"),
        ("eligible", _lose_a_fragment, "select"),
        ("images", _call_a_row_lost, "embed"),
        ("pairs", _call_a_row_lost, "fetch"),
        ("claims", _claim_more, "composition"),
        ("dataset", _lose_a_fragment, "assemble"),
    ],
)
def test_a_tampered_manifest_is_refused(
    finished: Run,
    tmp_path: Path,
    table: str,
    change: Callable[[dict[str, Any]], None],
    named: str,
) -> None:
    shutil.copytree(finished.store.uri, tmp_path / "store")
    store = Store(tmp_path / "store")
    manifest = open_table(store, table).manifest
    spec = json.loads(json.dumps(asdict(manifest)))
    change(spec)
    spec["fragments"] = tuple(FragmentRecord.from_json(r) for r in spec["fragments"])
    place = f"tables/{table}/versions/{manifest.version}.parquet"
    store.storage.write(place, write_manifest(Manifest(**spec)))
    with pytest.raises(StoreError, match=named):
        write_report(finished.recipe, store)


def test_shortened_text_is_one_line_without_control_characters() -> None:
    assert shorten("a\u202eb\x00c\n d\t\ue000e") == "a b c d e"
    assert len(shorten("word " * 500)) == 140


def test_the_summary_of_copies_agrees_with_the_table(finished: Run) -> None:
    lineage = trace(finished.recipe, finished.store)
    table = lineage["copies"].read().to_pandas()
    copies = table[(table["role"] == "pool") & (table["method"] != "representative")]
    summary = summarise_copies(lineage["copies"], Album(lineage["images"]), seed=0)
    assert summary.rows == len(copies) and summary.groups == copies["representative_id"].nunique()
    assert summary.largest[0] == copies["representative_id"].value_counts().max() + 1
    weakest = summary.weakest["perceptual"][0].similarity
    assert weakest == copies.loc[copies["method"] == "perceptual", "similarity"].min()
    assert sum(summary.contamination_counts.values()) == table["contaminated_by"].notna().sum()
    for group in summary.examples:
        assert group.representative.pair_id in set(
            table.loc[table["method"] == "representative", "pair_id"]
        )
        assert group.rows == len(group.copies) + 1


def test_what_was_not_checked_is_not_called_clean(finished: Run, tmp_path: Path) -> None:
    spec = finished.recipe.model_dump(mode="json", by_alias=True)
    spec["dedup"]["held_out"] = None
    kept = run_into(Store(shutil.copytree(finished.store.uri, tmp_path / "store")), spec)
    _, page = read(kept)
    assert "Nothing was checked" in page.sections["held-out"][1]
    assert not any("No image of the pool" in text for text in page.sections["held-out"])


def test_each_held_out_set_is_shown_with_its_own_threshold(finished: Run, tmp_path: Path) -> None:
    spec = finished.recipe.model_dump(mode="json", by_alias=True)
    spec["dedup"]["held_out"] |= {"at_least": 0.99, "sets": {"bench": {"at_least": 0.9995}}}
    kept = run_into(Store(shutil.copytree(finished.store.uri, tmp_path / "store")), spec)
    _, page = read(kept)
    assert "0.9995" in page.sections["held-out"]
    assert not any("0.99" in text.split() for text in page.sections["held-out"])


def test_sizes_of_clusters_are_those_of_the_table(finished: Run, page: Page) -> None:
    sizes = open_table(finished.store, "centroids").read(["training_count"]).column(0).to_numpy()
    median = f"{np.median(sizes):.1f}".removesuffix(".0")
    assert f"{sizes.min()} / {median} / {sizes.max()}" in page.sections["clusters"]
    assert np.median(sizes) != np.sort(sizes)[len(sizes) // 2]


@pytest.mark.parametrize(
    ("clusters", "rounds", "resampled"),
    [([8, 2], 10, True), ([8, 2], 1, False), ([8, 8], 10, False)],
)
def test_the_objective_of_a_resampled_level_is_that_of_few_points(
    clusters: list[int], rounds: int, resampled: bool, finished: Run
) -> None:
    trained = open_table(finished.store, "centroids").manifest
    params = trained.params | {"resampling": {"rounds": rounds}}
    manifest = replace(trained, params=params, stats=trained.stats | {"clusters": clusters})
    assert objective_name(0, manifest) == "mean cosine similarity to the centroid"
    assert ("of the points of the last of 10 rounds" in objective_name(1, manifest)) == resampled


def test_examples_of_a_reason_were_dropped_by_that_stage(finished: Run) -> None:
    lineage = trace(finished.recipe, finished.store)
    rows = pd.concat(
        [
            lineage["eligible"].read(["pair_id", "reason"]).to_pandas(),
            lineage["images"].read(["status"]).to_pandas(),
        ],
        axis=1,
    )
    # Reasons such as blocked_domain are of two stages; here each is looked for in all of them.
    reasons = set(rows["reason"].dropna())
    keys = [(stage, reason) for stage in STATUS_AFTER for reason in reasons]
    examples = choose_examples(lineage, keys, Album(lineage["images"]), seed=0)
    assert {key for key in keys if examples[key]} >= {
        ("fetch", "not_an_image"),
        ("select", "min_side"),
    }
    for (stage, reason), refs in examples.items():
        same = rows[(rows["reason"] == reason) & (rows["status"] == STATUS_AFTER[stage])]
        assert len(refs) == min(EXAMPLES, len(same))
        for ref in refs:
            fragment = lineage["eligible"].fragments[ref.fragment]
            row = fragment.read(["pair_id", "reason"]).slice(ref.row, 1).to_pylist()
            assert row == [{"pair_id": ref.pair_id, "reason": reason}]
            assert ref.pair_id in set(same["pair_id"])
