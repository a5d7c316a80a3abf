"""Globs match as in a shell: whatever stands in brackets, and whatever files are called."""

from __future__ import annotations

import fnmatch
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from curation.stages.ingest.sources.globs import split_glob
from tests.ingest.helpers import noted, pairs, source

CHARACTERS = "ab]![-^\\&|~.z\n"
SETS = st.text(CHARACTERS, min_size=1, max_size=6).map(lambda text: f"x[{text}]*")
NAMES = st.text(CHARACTERS.replace("\\", "") + "xé", max_size=4).map(lambda text: f"x{text}")


@given(SETS, NAMES)
@example("x[[^]*", "x^")
def test_sets_of_characters_match_as_in_a_shell(glob: str, name: str) -> None:
    # fnmatch leaves such a range out, and takes the `!` after it for a negation; a shell does not.
    assume(not re.match(r"x\[(?:[^!^]-.)(?:.-.)*!", glob, re.DOTALL))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, pattern = split_glob(f"/l/{glob}")
    assert pattern is not None
    # A shell takes `^` at the beginning of a set for `!`, and `fnmatch` does not.
    as_fnmatch = f"x[!{glob[3:]}" if glob.startswith("x[^") else glob
    assert bool(pattern.fullmatch(name)) == fnmatch.fnmatchcase(name, as_fnmatch)
    assert not pattern.fullmatch("x/")


@pytest.mark.parametrize("glob", ["**", "**/*", "*/*", "d*/**"])
def test_names_with_line_ends_are_matched(tmp_path: Path, glob: str) -> None:
    folder = tmp_path / "l" / "d\n1"
    folder.mkdir(parents=True)
    (folder / "a\n.txt").write_text("http://a.example/1\n")
    rows = pairs(tmp_path / "store", source(f"{tmp_path}/l/{glob}", format="txt", columns={}))
    assert len(rows) == 1


@pytest.mark.parametrize("hidden", [".tmp/1.tsv", ".t.tsv", "_temporary/0/1_t.tsv", "_t/1.tsv"])
def test_a_glob_takes_hidden_files_only_where_a_part_of_it_begins_so(
    tmp_path: Path, hidden: str
) -> None:
    for name in ("1_t.tsv", hidden):
        (tmp_path / "l" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "l" / name).write_text(f"url\nhttp://a.example/{name}\n")
    spec = source(f"{tmp_path}/l/**/*.tsv", format="tsv", columns={"url": "url"})
    assert len(pairs(tmp_path / "store", spec)) == 1
    assert noted(tmp_path / "store") == {"hidden_file": 1}
    start = hidden.partition("/")[0][:2]
    meant = spec | {"path": f"{tmp_path}/l/**/{start}*{'/**' if '/' in hidden else ''}"}
    rows = pairs(tmp_path / "other", meant)
    assert [row["url"] for row in rows] == [f"http://a.example/{hidden}"]
