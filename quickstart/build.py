"""Builds the mini-web: the table of the pool, the files that it links to, seed sets and the truth."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.activity import WorkCounts
from curation.progress import ProgressBar

from . import copies, dirt
from .drawings import DRAWINGS
from .pictures import Picture, Studio
from .web import TRUTH, Row, Web

VERSION = 2
LIBRARIES = ("numpy", "pillow", "PyWavelets", "scikit-image", "scikit-learn")

SCENES, DIGITS = 700, 500
DRAWN = {"clocks": 180, "houses": 100, "boats": 100}
HELD_OUT_SCENES, HELD_OUT_DIGITS = 30, 10
SEEDS = {"textures": 45, "clocks": 36, "digits": 50}
POOL_FILES = 2

STAMP = "stamp.json"
FOLDERS = ("pool", "www", "seeds", "held_out")
FILES = ("blocked.txt", "truth.parquet", "truth_sets.parquet", STAMP)

Members = list[tuple[str, Picture]]
Advance = Callable[[float], None]


def build(out: Path, port: int, seed: int = 0) -> None:
    """Write a mini-web for a server at `port` to the folder `out`.

    It does nothing if the same mini-web exists already. The same seed and port give the same bytes.

    Raises:
        FileExistsError: `out` has files of these names that this function did not write.
    """
    out = Path(out)
    stamp = {
        "version": VERSION,
        "seed": seed,
        "port": port,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    if read_stamp(out) == {**stamp, "complete": True}:
        return
    _clear(out)
    _write_stamp(out, stamp)
    studio, web = Studio(seed), Web(out, port, seed)
    counts = (SCENES, DIGITS, HELD_OUT_SCENES, HELD_OUT_DIGITS, *DRAWN.values(), *SEEDS.values())
    with ProgressBar("Making images", sum(counts)) as bar:
        made = 0.0

        def progress(count: float) -> None:
            nonlocal made
            made += count
            bar.set_counts(WorkCounts(round(made), sum(counts), "images"))

        held_out, truth = _held_out(out, studio, progress)
        truth += _seeds(out, studio, held_out, progress)
        dirt.add_bad_rows(web, studio)
        shown = _add_pool_images(web, studio, progress)
    copies.add_copies(web, shown, held_out)
    _write_pool(web)
    pq.write_table(pa.Table.from_pylist(truth), out / "truth_sets.parquet")
    (out / "blocked.txt").write_text("".join(f"{one}\n" for one in dirt.BLOCKED_DOMAINS))
    _write_stamp(out, {**stamp, "complete": True})


def read_stamp(out: Path) -> dict[str, object]:
    """Return the seed, port and versions of the mini-web in `out`; empty if there is none."""
    path = Path(out) / STAMP
    return json.loads(path.read_text()) if path.is_file() else {}


def _write_stamp(out: Path, stamp: dict[str, object]) -> None:
    (out / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def _clear(out: Path) -> None:
    """Remove an earlier mini-web, but no other files."""
    out.mkdir(parents=True, exist_ok=True)
    present = [out / name for name in (*FOLDERS, *FILES) if (out / name).exists()]
    if present and not read_stamp(out):
        raise FileExistsError(
            f"{out} has {present[0].name!r} but no {STAMP}, so it is not a mini-web; choose another "
            "folder, or move these files away"
        )
    for path in present:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != STAMP:
            path.unlink()


def _held_out(out: Path, studio: Studio, progress: Advance) -> tuple[Members, list[dict[str, str]]]:
    """Write the held-out images; return them by path, and their truth."""
    names = [*studio.photographs, *DRAWINGS]
    pictures = [
        studio.any_scene([names[index % len(names)]]) for index in range(HELD_OUT_SCENES)
    ] + [studio.digit(index % 10) for index in range(HELD_OUT_DIGITS)]
    progress(len(pictures))
    members = [(f"held_out/{i:03d}{one.extension}", one) for i, one in enumerate(pictures)]
    (out / "held_out").mkdir()
    for path, picture in members:
        (out / path).write_bytes(picture.data)
    return members, [_truth("held_out", Path(path).name, one) for path, one in members]


def _seeds(out: Path, studio: Studio, held_out: Members, progress: Advance) -> list[dict[str, str]]:
    """Write three seed sets, one per format; return their truth."""
    sets: dict[str, Members] = {
        "digits": [(f"{i:03d}", studio.digit(i % 10, form="JPEG")) for i in range(SEEDS["digits"])]
    }
    truth = []
    for name, edit in {"textures": "smaller", "clocks": "requantised"}.items():
        photographs = studio.theme(name)
        drawn = [studio.any_scene(photographs, form="JPEG") for _ in range(SEEDS[name])]
        sets[name] = [(f"{i:03d}.jpg", one) for i, one in enumerate(drawn)]
        # One seed is a copy of a held-out image, which must not enter the dataset through it.
        path, source = next((p, one) for p, one in held_out if one.photo in photographs)
        data, _ = copies.edit(studio.rng, source, edit)
        copy = Picture(source.photo, source.caption, data, ".jpg")
        sets[name].append((f"{len(drawn):03d}.jpg", copy))
        truth.append(_truth(name, sets[name][-1][0], copy, copy_of=path, edit=edit))
    progress(sum(SEEDS.values()))
    for name, members in sets.items():
        (out / "seeds" / name).mkdir(parents=True)
        SEED_WRITERS[name](out / "seeds" / name, members)
        truth += [_truth(name, key, one) for key, one in members[: SEEDS[name]]]
    return truth


def _truth(name: str, member: str, picture: Picture, **copy: str) -> dict[str, str]:
    return {
        "set": name,
        "member": member,
        "photo": picture.photo,
        "copy_of": "",
        "edit": "",
        **copy,
    }


def _write_folder(folder: Path, members: Members) -> None:
    for name, picture in members:
        (folder / name).write_bytes(picture.data)


def _write_parquet(folder: Path, members: Members) -> None:
    pictures = [one for _, one in members]
    table = {
        "key": [key for key, _ in members],
        "jpg": [one.data for one in pictures],
        "caption": [one.caption for one in pictures],
        "label": pa.array([int(one.photo.removeprefix("digit-")) for one in pictures], pa.int32()),
    }
    pq.write_table(pa.table(table), folder / "digits.parquet")


def _write_tar(folder: Path, members: Members) -> None:
    with tarfile.open(folder / "clocks-000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, picture in members:
            caption = (str(Path(name).with_suffix(".txt")), picture.caption.encode())
            for file, data in ((name, picture.data), caption):
                entry = tarfile.TarInfo(file)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


SEED_WRITERS = {"textures": _write_folder, "clocks": _write_tar, "digits": _write_parquet}


def _add_pool_images(web: Web, studio: Studio, progress: Advance) -> list[tuple[Row, Picture]]:
    """Add the good images of the pool; return each with its row."""
    shown = []
    drawn = [name for name, count in DRAWN.items() for _ in range(count)]
    for index in range(SCENES + len(drawn) + DIGITS):
        if index < SCENES:
            one = studio.any_scene()
        elif index < SCENES + len(drawn):
            one = studio.drawing(drawn[index - SCENES])
        else:
            one = studio.digit(index % 10)
        shown.append((web.add_image(one), one))
        progress(1)
    return shown


def _write_pool(web: Web) -> None:
    """Write the table of the pool in shuffled parts, like a crawl, and the truth of its rows."""
    rows = [web.rows[index] for index in web.rng.permutation(len(web.rows))]
    (web.out / "pool").mkdir()
    for part, indices in enumerate(np.array_split(np.arange(len(rows)), POOL_FILES)):
        of_part = [rows[index] for index in indices]
        table = {
            "URL": [row.url for row in of_part],
            "TEXT": [row.text for row in of_part],
            "uid": [row.uid for row in of_part],
        }
        pq.write_table(pa.table(table), web.out / "pool" / f"part-{part}.parquet")
    records = [{field: getattr(row, field) for field in TRUTH.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(records, schema=TRUTH), web.out / "truth.parquet")
