"""Pictures in files that change between runs, in every form that a source may have."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from curation.errors import RecipeError
from tests.ingest.helpers import jpeg
from tests.reuse.stores import Rows, Spec, StoppedError, run, run_fresh, up_to_date

FORMS = ("folder", "paths", "linked", "tar", "keyed", "plain")
NAMES = ("a", "b", "c")
ROLES = {
    **{"folder": "seed", "paths": "pool", "linked": "pool"},
    **{"tar": "held_out", "keyed": "pool", "plain": "seed"},
}
TIME = 1_700_000_000 * 10**9
"""The time of modification of every file: copies often keep it."""


class Pictures(RuleBasedStateMachine):
    """The model is the disk: a run gives what a fresh store gives.

    Attributes:
        runs: number of runs that were compared with a fresh store.
    """

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.shades: dict[str, int] = {}
        self.sums: dict[str, str] = {}
        self.version = "v1"

    def teardown(self) -> None:
        """Run every recipe once more, and remove the store."""
        try:
            for form in FORMS:
                self.run(form, 2)
        finally:
            shutil.rmtree(self.folder)

    @initialize()
    def build(self) -> None:
        """Write three pictures in every form."""
        self.shades = dict.fromkeys(NAMES, 1)
        self._write()

    @rule(name=st.sampled_from(NAMES), shade=st.integers(1, 4))
    def draw(self, name: str, shade: int) -> None:
        """Draw a picture, new or in place of another of the same size and time."""
        self.shades[name] = shade
        self._write()

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        """Take a picture away; the list of paths still names it."""
        if len(self.shades) > 1:
            self.shades.pop(name, None)
            self._write()

    @rule(name=st.sampled_from(NAMES), shade=st.sampled_from([None, 1, 2]))
    def expect(self, name: str, shade: int | None) -> None:
        """State which picture a path must be, or nothing."""
        self.sums.pop(name, None)
        if shade is not None:
            self.sums[name] = sha256(picture(shade))
        self._write()

    @rule(version=st.sampled_from(["v1", "v2"]))
    def move(self, version: str) -> None:
        """Read another folder with files of the same names, under the same name of the source."""
        self.version = version
        self._write()

    @rule(version=st.sampled_from(["v1", "v2"]), name=st.sampled_from([None, *NAMES]))
    def link(self, version: str, name: str | None) -> None:
        """Let a link to the folder of pictures, or to one of them, lead to another version."""
        place, target = ("now", f"{version}/named")
        if name is not None:
            place, target = f"{name}.jpg", f"{version}/named/{name}.jpg"
        (self.folder / place).unlink(missing_ok=True)
        (self.folder / place).symlink_to(target)

    @rule(form=st.sampled_from(FORMS), rows=st.sampled_from([1, 2, 100]))
    def run_recipe(self, form: str, rows: int) -> None:
        """Run a recipe."""
        self.run(form, rows)

    def run(self, form: str, rows: int) -> None:
        """Run a recipe, and compare it with a fresh store."""
        spec = self._spec(form, rows)
        try:
            fresh = run_fresh(spec, "fetch")
        except RecipeError as error:
            # A link leads to no folder, so none of the pictures is there.
            with pytest.raises(RecipeError, match=re.escape(str(error))):
                run(self.folder / "store", spec, "fetch")
            return
        stored_rows = run(self.folder / "store", spec, "fetch")
        assert as_set(stored_rows) == as_set(fresh)
        assert up_to_date(self.folder / "store", spec, "fetch")
        type(self).runs += 1

    @rule(form=st.sampled_from(FORMS), units=st.integers(0, 4))
    def stop(self, form: str, units: int) -> None:
        """Stop a run after some units."""
        try:
            run(self.folder / "store", self._spec(form, 1), "fetch", stop_after=units)
        except (StoppedError, RecipeError):
            return

    def _spec(self, form: str, rows: int) -> Spec:
        # A recipe has a pool.
        forms = [form] if ROLES[form] == "pool" else [form, "paths"]
        sources = [self._source(name) for name in forms]
        return {"sources": sources, "ingest": {"rows_per_fragment": rows}}

    def _source(self, form: str) -> Spec:
        place = {"folder": "folder", "tar": "t.tar"}.get(form, f"{form}.parquet")
        columns = {
            "folder": {},
            "tar": {},
            "paths": {"path": "p", "sha256": "h"},
            "linked": {"path": "p"},
            "keyed": {"image": "img", "key": "k"},
            "plain": {"image": "img"},
        }
        reader = {"folder": "folder", "tar": "webdataset"}.get(form, "parquet")
        return {
            "name": form,
            "role": ROLES[form],
            "format": reader,
            "path": str(self.folder / ("" if form == "linked" else self.version) / place),
            "columns": columns[form],
        }

    def _write(self) -> None:
        """Write every form anew; a file that stays the same is not touched."""
        root = self.folder / self.version
        images = {name: picture(shade) for name, shade in sorted(self.shades.items())}
        for folder in ("folder", "named"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in NAMES:
                put(root / folder / f"{name}.jpg", images.get(name))
        sums = [self.sums.get(name) for name in NAMES]
        paths = [f"named/{name}.jpg" for name in NAMES]
        put(root / "paths.parquet", parquet({"p": paths, "h": pa.array(sums, pa.string())}))
        ways = [way for name in NAMES for way in (f"now/{name}.jpg", f"{name}.jpg")]
        put(self.folder / "linked.parquet", parquet({"p": ways}))
        keyed = {"k": ["same"] * len(images), "img": pa.array(images.values(), pa.binary())}
        put(root / "keyed.parquet", parquet(keyed))
        put(root / "plain.parquet", parquet({"img": keyed["img"]}))
        put(root / "t.tar", tar(images))


def picture(shade: int) -> bytes:
    """Return one of several pictures whose files have the same size."""
    content = jpeg(shade, (32, 24))
    return content + b"\0" * (1000 - len(content))


def put(path: Path, content: bytes | None) -> None:
    """Bring a file to a content; None takes it away."""
    if content is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)
        os.utime(path, ns=(TIME, TIME))


def parquet(columns: dict[str, Any]) -> bytes:
    """Return a Parquet file."""
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def tar(images: dict[str, bytes]) -> bytes:
    """Return a tar of images."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, content in images.items():
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return out.getvalue()


def sha256(content: bytes) -> str:
    """Return the checksum of a file."""
    import hashlib

    return hashlib.sha256(content).hexdigest()


def as_set(rows: Rows) -> Counter[tuple[Any, ...]]:
    """Return rows without their order."""
    return Counter(tuple(row.values()) for row in rows)
