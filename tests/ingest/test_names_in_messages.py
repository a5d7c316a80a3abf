"""Names of files, members and columns stay in one line of each message: none passes for another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError, StoreError
from curation.inspect.check.check import check_recipe
from curation.inspect.first_recipe.draft import draft
from curation.recipe import parse_recipe
from curation.stages.ingest.sources.notices import describe
from curation.terminal import visible
from tests.ingest.helpers import jpeg, pairs, run, source, table, tar_of

LIE = "error: all is lost"
NAME = f"a\n{LIE}\nb"


def lines_of(folder: Path) -> Iterator[str]:
    """The lines of all messages about a folder whose files and columns have such a name."""
    lists, pictures, tars = folder / "lists", folder / "pictures", folder / "tars"
    for place in (lists, pictures, tars):
        place.mkdir()
    pq.write_table(pa.table({NAME: ["x"], "b": ["y"]}), lists / f"{NAME}.parquet")
    (lists / f"{NAME}.zzz").touch()
    (pictures / f"{NAME}.jpg").write_bytes(jpeg())
    (pictures / f"{NAME}.zzz").touch()
    (pictures / f"{NAME}.parquet").write_bytes((lists / f"{NAME}.parquet").read_bytes())
    members = {f"{NAME}.jpg": jpeg(), f"{NAME}/c.zzz": b"\xff", f"{NAME}.txt": b"\xff"}
    (tars / f"{NAME}.tar").write_bytes(tar_of(members))
    wanted = source(lists, columns={"url": "url"})
    for fails in (lambda: draft([str(lists)], (), ()), lambda: pairs(folder / "s", wanted)):
        with pytest.raises((RecipeError, StoreError)) as raised:
            fails()
        yield str(raised.value)
    yield from check_recipe(parse_recipe({"name": "r", "sources": [wanted]}), None, 1).problems
    for name, form in ((pictures, "folder"), (tars, "webdataset")):
        yield from (n for notes in draft([str(name)], (), ()).notes.values() for n in notes)
        run(folder / form, source(name, format=form))
        yield from describe(table(folder / form, "pairs").manifest.stats["notices"]["web"])


def test_names_stay_in_one_line(tmp_path: Path) -> None:
    messages = [visible(text) for text in lines_of(tmp_path)]
    assert len(messages) > 6 and any(LIE in text for text in messages)
    lines = [line.strip() for text in messages for line in text.split("\n")]
    assert not [line for line in lines if line.startswith(LIE)]
