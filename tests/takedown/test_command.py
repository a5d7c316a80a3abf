"""The command forget."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import curation
from curation.cli import app
from curation.engine.table import open_table
from curation.errors import CurationError, RecipeError, TakenDownError
from curation.runner.gc.forget import Request, _tombstone, read_list
from curation.runner.takedown.hosts import rows_of_hosts
from curation.store.store import Store
from curation.store.tombstones import Takedowns, read_takedowns

from ..gc.helpers import run_recipe
from .conftest import Tiny
from .helpers import url_of


def read_urls(store: Path) -> list[str | None]:
    """The URLs of all pairs."""
    urls = open_table(Store(store), "pairs").read(["url"])["url"].to_pylist()
    return [None if url is None else str(url) for url in urls]


BY = ("--by", "the owner", "--reason", "request 17")


def call(*words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, list(words))


def test_no_way_is_shown_to_open_a_dataset_with_rows_that_were_taken_down(tiny: Tiny) -> None:
    store = str(tiny.store)
    before = call("show", "dataset", "--store", store, "-n", "0").stdout
    assert "*.parquet" in before and "taken down" not in before
    with curation.open(store) as opened:
        image = opened.table("dataset").arrow(["image_id"])["image_id"][0].as_py()
    assert call("forget", "--store", store, "--image-id", image, *BY).exit_code == 0
    after = call("show", "dataset", "--store", store, "-n", "0").stdout
    assert "open with  `curation sql` alone" in after
    assert "*.parquet" not in after and "taken down  some" in after
    facts = json.loads(call("show", "dataset", "--store", store, "--json").stdout)
    assert (facts["taken_down"], facts["folder"], facts["open_with"]) == (True, None, None)


def test_from_a_list_to_the_proof(tiny: Tiny, tmp_path: Path) -> None:
    listed, store = tmp_path / "list.txt", str(tiny.store)
    listed.write_text(f"# of today\n{url_of('p1')}\nother.example\n")
    done = call("forget", "--store", store, "--list", str(listed), *BY, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"]["pairs"] == 1
    path = call("path", "images", "--store", store)
    assert isinstance(path.exception, CurationError)
    assert "taken down" in str(path.exception)
    shown = call("show", "pairs", "--store", store, "-n", "20")
    assert url_of("p2") in shown.stdout
    assert url_of("p1") not in shown.stdout
    assert "taken down  some of these rows are" in shown.stdout
    assert json.loads(call("show", "pairs", "--store", store, "--json").stdout)["taken_down"]
    # The files still have the rows, so no way to open them is shown.
    assert "open with  `curation sql` alone" in shown.stdout
    proof = call("forget", "--store", store, "--prove")
    assert (proof.exit_code, "left  tables/images" in proof.stdout) == (1, True)
    # The next run takes the other rows from these files.
    early = call("gc", "--store", store)
    assert re.search(r"taken down, but kept: .*images 1 files", early.stdout)
    _, did = run_recipe(tiny.recipe, tiny.store)
    assert did["fetch"].computed == 1
    swept = call("gc", "--store", store)
    assert re.search(r"taken down: .*images 1 files", swept.stdout)
    proof = call("forget", "--store", store, "--prove", "--json")
    assert proof.exit_code == 0
    assert json.loads(proof.stdout)["hashes"] == {
        "host": 1,
        "image that no pair has": 1,
        "pair": 1,
        "url": 1,
    }


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("https://a.example/1.jpg # request 17", {"urls": ["https://a.example/1.jpg"]}),
        ("https://a.example/1.jpg\t#17", {"urls": ["https://a.example/1.jpg"]}),
        ("https://a.example/1.jpg#part", {"urls": ["https://a.example/1.jpg#part"]}),
        ("a.example  # all of it", {"hosts": ["a.example"]}),
        (f"{'0' * 64} # one picture", {"images": ["0" * 64]}),
        (f"  {'A' * 32}", {"images": ["A" * 32]}),
        ("  # a comment", {}),
        ("#a.example", {}),
    ],
)
def test_a_list_may_have_comments(line: str, named: dict[str, list[str]], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"\ufeff\n{line}\r\n", encoding="utf-8")
    request = read_list(listed, Request())
    assert {
        n: v for n, v in vars(request).items() if v and n in ("urls", "hosts", "images")
    } == named


def test_the_name_of_a_column_takes_no_top_level_domain_down(tiny: Tiny, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"link\n{url_of('p1')}\n")
    done = call("forget", "--store", str(tiny.store), "--list", str(listed), *BY)
    assert done.exit_code and isinstance(done.exception, RecipeError)
    assert "'link' (without a dot" in str(done.exception)
    assert read_takedowns(Store(tiny.store).storage) is None


def test_it_says_before_which_hosts_are_meant(tiny: Tiny) -> None:
    store = str(tiny.store)
    named = ("--store", store, "--host", "Pictures.Example.", *BY)
    rows = sum(url is not None for url in read_urls(tiny.store))
    meant = f"1 host of this store, with {rows} rows of pairs: pictures.example ({rows})"
    shown = call("forget", *named, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert meant in shown.stderr and "Nothing was taken down" in shown.stdout
    facts = json.loads(call("forget", *named, "--dry-run", "--json").stdout)
    assert (facts["tombstone"], facts["hosts"]) == (None, {"pictures.example": rows})
    assert facts["rows"]["pairs"] == rows
    # Not even the key of tombstones.
    assert not (tiny.store / "tombstones").exists()
    done = call("forget", *named, "--json")
    assert meant in done.stderr
    assert json.loads(done.stdout)["hosts"] == {"pictures.example": rows}
    assert json.loads(done.stdout)["rows"]["pairs"] == rows


def test_a_domain_stands_for_all_hosts_below_it(tmp_path: Path) -> None:
    store, folder = Store(tmp_path), tmp_path / "tables" / "pairs" / "data"
    folder.mkdir(parents=True)
    urls = [
        f"https://{h}/1.jpg" for h in ("a.co.uk", "b.co.uk", "B.co.uk:80", "nico.uk", "co.uk.x")
    ]
    rows = pa.table({"url": [*urls, "no url", None], "url_normalized": pa.nulls(7, pa.string())})
    pq.write_table(rows, folder / "a.parquet")
    # What was set aside, or is cut off.
    (folder / "b.parquet.damaged").write_bytes(b"PAR1")
    assert list(rows_of_hosts(store, ["co.uk"]).items()) == [("b.co.uk", 2), ("a.co.uk", 1)]
    assert rows_of_hosts(store, ["uk.co", "[::1]"]) == rows_of_hosts(store, []) == {}


def test_what_cannot_take_effect_is_refused(tiny: Tiny) -> None:
    store = str(tiny.store)
    for words, text in (
        (("--url", url_of("p1")), "--by is missing or empty"),
        (BY, "Name it by --url"),
        (("--url", url_of("p1"), "--prove"), "takes nothing down"),
        (("--url", url_of("p1"), "--by", "x", "--reason", f"see {url_of('p1')}"), "other words"),
        (("--prove",), "Nothing was taken down"),
        (("--prove", "--after", "1d"), "takes nothing down"),
        (("--prove", "--within", "0"), "takes nothing down"),
        (("--prove", "--hash-only"), "takes nothing down"),
        (("--url", url_of("p1"), *BY, "--after", "1d"), "no effect without --opt-outs"),
        (("--url", url_of("p1"), *BY, "--within", "9"), "no effect without"),
        (("--prove", "--no-wait"), "takes nothing down"),
        (("--prove", "--dry-run"), "takes nothing down"),
        # A command that runs every night must not wait for the first hit to fail.
        (("--opt-outs",), "--by is missing or empty"),
        (("--opt-outs", *BY, "--cosine", "0.9"), "Give --like"),
        (("--opt-outs", *BY, "--after", "99999999999d"), "Write at most 36500d"),
    ):
        done = call("forget", "--store", store, *words)
        assert isinstance(done.exception, CurationError)
        assert text in str(done.exception)


BARE = url_of("p1").removeprefix("https://")
NAMED_HOST = BARE.split("/", 1)[0]


@pytest.mark.parametrize(
    ("words", "is_refused"),
    [
        (f"see {BARE}.", True),
        (f"({BARE})", True),
        (f"of {NAMED_HOST.upper()}{BARE.removeprefix(NAMED_HOST)}", True),
        (f"someone at {NAMED_HOST} asks", False),
        ("request 17 of 2026-11-30, paragraph 3.1", False),
    ],
)
def test_words_do_not_keep_a_url_without_its_scheme(words: str, is_refused: bool) -> None:
    takedowns = Takedowns(bytes(32))
    request = Request(urls=[url_of("p1")], by="me", reason=words)
    with pytest.raises(RecipeError, match="in other words") if is_refused else nullcontext():
        _tombstone(request, takedowns)


@pytest.mark.parametrize(
    ("words", "is_refused"),
    [
        (f"dpo@{NAMED_HOST}", True),
        (f"M. Mustermann <m@WWW.{NAMED_HOST}>", True),
        (f"All of {NAMED_HOST}!", True),
        (f"my{NAMED_HOST}", False),
        (NAMED_HOST.split(".", 1)[1], False),
    ],
)
def test_words_do_not_keep_a_host(words: str, is_refused: bool) -> None:
    takedowns = Takedowns(bytes(32))
    request = Request(hosts=[NAMED_HOST], by=words, reason="request 17")
    with pytest.raises(RecipeError, match="in other words") if is_refused else nullcontext():
        _tombstone(request, takedowns)


def test_a_long_list_is_read_in_time_that_grows_with_it(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    lines = 200_000
    listed.write_text("".join(f"https://a.example/{n}.jpg\nh{n}.example\n" for n in range(lines)))
    request = read_list(listed, Request())
    assert (len(request.urls), len(request.hosts), len(request.images)) == (lines, lines, 0)


def test_a_run_with_rows_that_were_taken_down_is_neither_restored_nor_tagged(tiny: Tiny) -> None:
    store, first = str(tiny.store), tiny.record.run
    assert call("tag", "v1", "--run", first, "--store", store).exit_code == 0
    assert call("forget", "--store", store, "--url", url_of("p1"), *BY).exit_code == 0
    latest, _ = run_recipe(tiny.recipe, tiny.store)
    for words in (["restore", "v1"], ["tag", "v2", "--run", first]):
        done = call(*words, "--store", store)
        assert isinstance(done.exception, TakenDownError), done.output
        text = str(done.exception)
        assert f"Run {first} in {store} has rows that were taken down, in " in text
        assert "as it was then" in text
    (status,) = json.loads(call("status", "--store", store, "--json").stdout)
    assert (status["run"], status["state"]) == (latest.run, "finished")
    assert [tag["name"] for tag in json.loads(call("tag", "--store", store, "--json").stdout)] == [
        "v1"
    ]
