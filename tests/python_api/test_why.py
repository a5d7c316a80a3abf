"""`store.why` and `curation why` agree with the tables, for every row and every way to name it."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import curation
from curation.cli import app
from curation.inspect.api.store import OpenStore
from curation.inspect.why.tables import RowReader
from curation.store.fragment import Fragment
from curation.store.store import Store

from ..e2e.small import write_rows
from ..gc.helpers import build_tiny, edited, run_recipe
from ..takedown.helpers import url_of
from .conftest import HOSTILE, Made


def by_pair(store: OpenStore, table: str) -> dict[str, dict[str, Any]]:
    """Rows of an aligned table by pair; no two rows of the tiny recipe share one."""
    columns = [n for n in store.table(table).columns if n not in ("image", "vector", "phash")]
    return {row["pair_id"]: row for row in store.table(table).arrow(columns).to_pylist()}


@pytest.fixture(scope="module")
def answers(made: Made) -> dict[str, dict[str, Any]]:
    """What `why` says of each pair."""
    with curation.open(made.store) as store:
        named = store.table("pairs").arrow(["pair_id"]).column("pair_id").to_pylist()
        by_pair = {pair_id: store.why(pair_id) for pair_id in named}
    assert all(answer.kind == "pair_id" and answer.found == 1 for answer in by_pair.values())
    return {pair_id: answer.rows[0] for pair_id, answer in by_pair.items()}


def test_every_stage_is_told_as_the_tables_have_it(
    opened: OpenStore, answers: dict[str, dict[str, Any]]
) -> None:
    tables = {
        n: by_pair(opened, n) for n in ("pairs", "images", "eligible", "assignments", "scores")
    }
    for pair_id, answer in answers.items():
        pair, image, eligible, assigned, scores = (rows[pair_id] for rows in tables.values())
        assert {n: answer[n] for n in ("source", "source_key", "url", "caption")} == {
            n: pair[n] for n in ("source", "source_key", "url", "caption")
        }
        assert (answer["fetch"]["status"], answer["fetch"]["reason"]) == (
            image["status"],
            image["reason"],
        )
        assert answer["select"] == {n: eligible[n] for n in ("status", "reason")}
        answered = {score["name"]: score["value"] for score in answer["scores"]}
        assert (
            scores.items() - {("pair_id", pair_id), ("pixel_id", scores["pixel_id"])}
            <= answered.items()
        )
        if assigned["cluster_id"] is None:
            assert answer["cluster"] is None
        else:
            same = [
                a
                for a in tables["assignments"].values()
                if a["cluster_id"] == assigned["cluster_id"]
            ]
            assert answer["cluster"]["rows"] == len(same)


def test_a_score_stands_beside_its_threshold(answers: dict[str, dict[str, Any]]) -> None:
    for answer in answers.values():
        (length,) = (s for s in answer["scores"] if s["name"] == "caption_length")
        if answer["role"] == "seed":
            assert length["threshold"] is None
            continue
        assert length["threshold"]["at_most"] == 20
        fails = answer["select"]["reason"] == "caption_length"
        if answer["fetch"]["status"] == "ok":
            assert length["passes"] is not fails
    assert sum(a["select"]["reason"] == "caption_length" for a in answers.values()) == 1


def test_every_arm_claims_it_or_says_why_not(
    opened: OpenStore, answers: dict[str, dict[str, Any]]
) -> None:
    claims = opened.table("claims").arrow().to_pylist()
    dataset = {row["image_id"]: row for row in opened.table("dataset").arrow().to_pylist()}
    for answer in answers.values():
        if answer["image_id"] is None:
            assert answer["arms"] == []
            continue
        target = answer["dataset"]["image_id"]
        assert answer["dataset"]["is_in"] == (target in dataset)
        assert [arm["arm"] for arm in answer["arms"]] == ["near", "cells"]
        for arm in answer["arms"]:
            expected = [c for c in claims if c["arm"] == arm["arm"] and c["image_id"] == target]
            assert len(arm["claims"]) == len(expected)
            assert (arm["left_out"] is None) == bool(expected)
        if target in dataset:
            assert answer["dataset"]["weight"] == dataset[target]["weight"]
            assert answer["dataset"]["pair_id"] == dataset[target]["pair_id"]
    limits = {arm["left_out"] for answer in answers.values() for arm in answer["arms"]} - {None}
    assert "it is not eligible: caption_length" in limits
    assert any("claims pool images, and this is a seed image" in limit for limit in limits)


def test_the_nearest_seeds_are_those_of_matches(
    opened: OpenStore, answers: dict[str, dict[str, Any]]
) -> None:
    matches = opened.table("matches").arrow().to_pylist()
    seen = 0
    for answer in answers.values():
        if answer["image_id"] is None:
            continue
        target = answer["dataset"]["image_id"]
        expected = {(m["seed_image_id"], m["rank"]) for m in matches if m["image_id"] == target}
        assert {(s["seed_image_id"], s["rank"]) for s in answer["seeds"]} == expected
        similarities = [s["similarity"] for s in answer["seeds"]]
        assert similarities == sorted(similarities, reverse=True)
        seen += len(expected)
    assert seen


def test_a_chain_of_pairs_leads_to_the_row_that_stands_for_a_copy(
    opened: OpenStore, answers: dict[str, dict[str, Any]]
) -> None:
    copies = by_pair(opened, "copies")
    for pair_id, answer in answers.items():
        if pair_id not in copies:
            assert answer["dedup"] is None
            continue
        row, decision = copies[pair_id], answer["dedup"]
        component = [c for c in copies.values() if c["component_id"] == row["component_id"]]
        assert decision["rows"] == len(component)
        assert decision["representative_pair_id"] == row["representative_pair_id"]
        at = row["image_id"]
        for edge in decision["tied_by"]:
            ends = {edge["image_id"], edge["evidence_id"]}
            assert at in ends
            (at,) = ends - {at}
        assert at == row["representative_id"]
    assert any(answer["dedup"] and answer["dedup"]["rows"] > 1 for answer in answers.values())


def test_each_row_knows_its_place_in_the_source(answers: dict[str, dict[str, Any]]) -> None:
    for answer in answers.values():
        (place,) = answer["ingest"]["listed"]
        key = answer["source_key"]
        expected = 9 if key == "again" else int(key[1:]) + 1
        assert place["row"] == expected
        assert place["file"].endswith("a.parquet" if answer["role"] == "pool" else "seeds.parquet")


def test_every_name_leads_to_the_same_row(
    made: Made, opened: OpenStore, answers: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(made.store.parent / "web" / "pool" / "a.parquet").to_pylist()
    row = next(row for row in rows if row["key"] == "p3")
    file = tmp_path / "photo.jpg"
    file.write_bytes(row["image"])
    sha256 = hashlib.sha256(row["image"]).hexdigest()
    (expected,) = (a for a in answers.values() if a["source_key"] == "p3")
    names = {
        "key": "p3",
        "url": url_of("p3"),
        "sha256": sha256.upper(),
        "image_id": sha256[:32],
        "pair_id": expected["pair_id"],
        "file": file,
        "location": expected["location"],
    }
    for kind, name in names.items():
        answer = opened.why(name)
        if kind in ("image_id", "sha256", "file"):
            assert answer.kind == kind
        assert [r["pair_id"] for r in answer.rows] == [expected["pair_id"]], kind
        assert answer.rows[0] == expected
    other_spelling = url_of("p3").replace("https://pictures", "HTTPS://PICTURES")
    assert opened.why(other_spelling).rows[0]["pair_id"] == expected["pair_id"]


def test_a_file_that_is_not_the_picture_of_its_name_is_said_to_be_another(
    made: Made, opened: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder may have a file that is called as a key is."""
    import pyarrow.parquet as pq

    rows = pq.read_table(made.store.parent / "web" / "pool" / "a.parquet").to_pylist()
    monkeypatch.chdir(tmp_path)
    file = Path("p3")
    for content, kind, word in (
        (rows[4]["image"][::-1], "key", "other bytes"),
        (rows[3]["image"], "file", ""),
    ):
        file.write_bytes(content)
        answer = opened.why("p3")
        assert (answer.kind, answer.rows[0]["source_key"]) == (kind, "p3")
        assert word in answer.note and bool(word) == bool(answer.note)
        assert answer.note in str(answer)
    # A row without a picture has no bytes that could differ.
    Path("p5").write_bytes(b"x")
    assert opened.why("p5").note == ""


def test_all_rows_of_a_picture_are_told(opened: OpenStore) -> None:
    copies = opened.table("copies").pandas()
    image = copies[copies["method"] == "exact"].iloc[0]["image_id"]
    answer = opened.why(image)
    assert answer.found == 2
    assert {row["source_key"] for row in answer.rows} == {"p0", "again"}
    assert {row["dataset"]["pair_id"] for row in answer.rows} == {
        answer.rows[0]["dedup"]["representative_pair_id"]
    } or not answer.rows[0]["dataset"]["is_in"]


def test_since_when_survives_later_runs_and_ends_at_a_gap(own: Made) -> None:
    with curation.open(own.store) as store:
        dataset = store.table("dataset").arrow(["pair_id"]).column("pair_id").to_pylist()
        first = {pair: store.why(pair).rows[0] for pair in dataset}
    assert first
    for row in first.values():
        assert row["ingest"]["since"]["run"] == own.first.run
        assert row["dataset"]["since"]["run"] in (own.first.run, own.second.run)
    # The third run takes the seeds alone; in the fourth all is as in the second.
    as_is = {"name": "seeds", "seeds": "round", "strategy": "as_is"}
    run_recipe(edited(own.recipe, retrieve=[as_is]), own.store)
    last, _ = run_recipe(own.recipe, own.store)
    with curation.open(own.store) as store:
        for pair in dataset:
            (row,) = store.why(pair).rows
            assert row["ingest"]["since"]["run"] == own.first.run
            assert row["dataset"]["since"]["run"] == last.run
    # Of an earlier run, what came after it says nothing.
    with curation.open(own.store, run=own.second.run) as store:
        for pair in dataset:
            assert store.why(pair).rows[0] == first[pair]


def test_a_picture_that_is_not_in_the_store_has_neighbours(
    made: Made, opened: OpenStore, tmp_path: Path
) -> None:
    row = (
        opened.table("images")
        .arrow(["image_id", "image"])
        .filter(
            opened.table("eligible").arrow(["status"]).column("status").to_numpy() == "eligible"
        )
    )
    image_id, content = row.to_pylist()[0].values()
    file = tmp_path / "encoded_again.jpg"
    Image.open(io.BytesIO(content)).save(file, quality=70)
    answer = opened.why(file)
    assert (answer.kind, answer.rows) == (None, [])
    assert answer.nearest[0]["image_id"] == image_id
    similarities = [near["similarity"] for near in answer.nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] > 0.9
    text = str(answer)
    assert "No image of the store has these bytes" in text
    assert image_id in text
    assert opened.why("no such key").note.startswith("No row has this id")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("https://host.example/none.jpg", ("no redirect", "download the picture", "name its file")),
        ("not-there.jpg", ("There is no such file", "name its file")),
        ("folder/not-there", ("There is no such file",)),
        ("0" * 64, ("No row has this id", "name its file")),
    ],
)
def test_what_is_unknown_says_what_to_give_instead(
    opened: OpenStore, what: str, words: tuple[str, ...]
) -> None:
    answer = opened.why(what)
    assert (answer.kind, answer.rows, answer.nearest) == (None, [], [])
    assert all(word in answer.note for word in words), answer.note


def test_the_command_prints_what_the_method_returns(made: Made, opened: OpenStore) -> None:
    run = CliRunner().invoke
    shown = run(app, ["why", "p2", "--store", str(made.store)])
    assert shown.exit_code == 0
    assert "fails at most 20" in " ".join(shown.output.split())
    assert "left it out: it is not eligible: caption_length" in " ".join(shown.output.split())
    assert "\x1b" not in shown.output
    as_json = run(app, ["why", "p2", "--store", str(made.store), "--json"]).output
    assert json.loads(as_json) == opened.why("p2").to_json()
    assert "\x1b" not in as_json
    assert opened.why("p2").rows[0]["caption"] == HOSTILE


def test_a_failed_row_has_its_reason(opened: OpenStore) -> None:
    (row,) = opened.why("p5").rows
    assert row["fetch"]["status"] == "failed"
    assert row["fetch"]["reason"] == "not_an_image"
    assert row["dataset"]["is_in"] is False
    assert "failed: not_an_image" in str(opened.why("p5"))


def test_a_store_without_later_stages_is_told_as_far_as_it_goes(made: Made, tmp_path: Path) -> None:
    record, _ = run_recipe(made.recipe, Store(tmp_path / "store"), until="ingest")
    with curation.open(tmp_path / "store") as store:
        (row,) = store.why("p1").rows
    assert row["ingest"]["status"] == "ok"
    assert row["ingest"]["since"]["run"] == record.run
    assert (row["fetch"], row["dedup"], row["select"]) == (None, None, None)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Fragment, tuple[str, ...] | None]]:
    """Every fragment that is read as a whole, with the columns."""
    reads: list[tuple[Fragment, tuple[str, ...] | None]] = []
    plain = Fragment.read

    def noted(fragment: Fragment, columns: Sequence[str] | None = None) -> pa.Table:
        reads.append((fragment, None if columns is None else tuple(columns)))
        return plain(fragment, columns)

    monkeypatch.setattr(Fragment, "read", noted)
    return reads


def test_the_row_that_stands_for_a_copy_is_not_looked_for(
    opened: OpenStore, read: list[tuple[Fragment, tuple[str, ...] | None]]
) -> None:
    """Its fragment is known from the copies, so no other is read for it."""
    copied = [
        (row["pair_id"], row["representative_pair_id"])
        for row in opened.table("copies").arrow().to_pylist()
        if row["pair_id"] != row["representative_pair_id"]
    ]
    assert copied
    for pair_id, representative in copied:
        (place,) = RowReader(opened._current).places("eligible", {"pair_id": [representative]})
        read.clear()
        (row,) = opened.why(pair_id).rows
        assert row["dataset"]["image_id"] == row["dedup"]["representative_id"]
        searched = {
            fragment.name
            for fragment, columns in read
            if columns == ("pair_id",) and fragment.record.table_dir == "tables/eligible"
        }
        assert searched == {place.fragment}


def test_what_versions_share_is_read_once(
    read: list[tuple[Fragment, tuple[str, ...] | None]], tmp_path: Path
) -> None:
    """Five versions of the pairs, of which each has a file more: the first fragment is in all."""
    spec = build_tiny(tmp_path / "web")
    for number in range(5):
        rows = [{"key": f"n{number}", "image": b"none", "caption": "new"}]
        write_rows(tmp_path / "web" / "pool" / f"b{number}.parquet", rows)
        first, _ = run_recipe(spec, tmp_path / "store", until="ingest")
    with curation.open(tmp_path / "store") as store:
        assert len(store.versions("pairs")) == 5
        oldest = store.versions("pairs")[-1].run
        read.clear()
        (row,) = store.why("p1").rows
    assert row["ingest"]["since"]["run"] == oldest != first.run
    searched = [
        fragment.content
        for fragment, columns in read
        if columns == ("pair_id",) and fragment.record.table_dir == "tables/pairs"
    ]
    # Once for its place, and once for the first run that lists it.
    assert Counter(searched).most_common(1)[0][1] <= 2
