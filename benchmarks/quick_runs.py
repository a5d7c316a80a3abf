"""Whole commands of a first session beside those of another checkout, such as an older commit.

A checkout of the older commit, with the same environment:

    git worktree add --detach ../old COMMIT && ln -s "$PWD/.venv" ../old/.venv
    python -m benchmarks.quick_runs --old ../old

Measured are the first run of the quickstart's recipe on a mini-web that is served beside it, a run with
nothing to do, and a run after a threshold has moved; then a first run on a folder of photographs. The
two checkouts take turns. `first row` is the time until the store has its first file with rows.
`processor` adds up all processes that a command started. Ratios are those of medians.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import yaml
from PIL import Image
from skimage import data

from benchmarks.command import ROOT, folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions

PORT = 8791
SIDE = 500
"""Longer side of the photographs in pixels."""
PR_SET_CHILD_SUBREAPER = 36
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "immunohistochemistry")


class Measurement(NamedTuple):
    """What one command took, in seconds."""

    wall: float
    processor: float
    first_row: float


class Case(NamedTuple):
    """One command.

    Attributes:
        name: what is measured.
        recipe: its recipe.
        anew: whether the store is empty before.
    """

    name: str
    recipe: Path
    anew: bool = False


def main() -> None:
    """Print the table."""
    options = _options()
    # Children of children whose parent has ended become ours, so their processor time is counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sides = {"new": options.new, **({"old": options.old} if options.old else {})}
    with folder_or_temporary(options.folder) as folder:
        cases = list(_folder_cases(folder, options.photographs, options.tiny))
        served = [] if options.tiny else list(_quickstart_cases(folder))
        with _served(folder) if served else nullcontext():
            measured = _measure([*served, *cases], sides, folder, options.rounds)
    print(f"{conditions()}\n")
    _print(measured, sides)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--old", type=Path, help="checkout to compare with; none by default")
    parser.add_argument("--new", type=Path, default=ROOT, help="checkout that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="for data and stores; temporary by default")
    return parse(parser, {"rounds": 1, "photographs": 12})


def _quickstart_cases(folder: Path) -> Iterator[Case]:
    """Build the mini-web, and yield the cases on it."""
    build = [sys.executable, "-m", "quickstart", "build", str(folder / "data" / "quickstart")]
    subprocess.run([*build, "--port", str(PORT)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    spec = yaml.safe_load((ROOT / "conf" / "recipes" / "quickstart.yaml").read_text())
    yield from _cases("quickstart", spec, folder)


def _folder_cases(folder: Path, count: int, tiny: bool) -> Iterator[Case]:
    """Write photographs into a folder, and yield the cases on it."""
    pictures = folder / "photographs"
    _write_photographs(pictures, count)
    source = {"name": "mine", "role": "pool", "format": "folder", "path": str(pictures)}
    spec = {
        "name": "photographs",
        "sources": [source, {**source, "name": "seeds", "role": "seed"}],
        "cluster": {"encoder": "semantic", "levels": [4]},
        "retrieve": [{"name": "near", "seeds": "seeds", "strategy": "sample", "k": 1}],
        "select": {"min_side": {"at_least": 8}},
    }
    yield from _cases("tiny folder" if tiny else f"{count:,} photographs", spec, folder)


def _cases(name: str, spec: Mapping[str, object], folder: Path) -> Iterator[Case]:
    stem = name.replace(" ", "_").replace(",", "")
    first, moved = folder / f"{stem}.yaml", folder / f"{stem}_moved.yaml"
    first.write_text(yaml.safe_dump(spec))
    moved.write_text(yaml.safe_dump({**spec, "select": {"min_side": {"at_least": 80}}}))
    yield Case(f"{name}: first run", first, anew=True)
    yield Case(f"{name}: nothing to do", first)
    yield Case(f"{name}: moved threshold", moved)


def _write_photographs(folder: Path, count: int) -> None:
    """Write crops of the photographs of scikit-image, SIDE pixels at the longer side."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    for number in range(count):
        image = images[number % len(images)]
        width, height = (round(side * (0.5 + 0.4 * (number % 97) / 97)) for side in image.size)
        left = (number * 37) % (image.width - width)
        top = (number * 53) % (image.height - height)
        crop = image.crop((left, top, left + width, top + height))
        scale = SIDE / max(crop.size)
        size = round(crop.width * scale), round(crop.height * scale)
        crop.resize(size).save(folder / f"{number:05d}.jpg", quality=90)


@contextmanager
def _served(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "quickstart", "serve", str(folder / "data" / "quickstart")]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def _measure(
    cases: list[Case], sides: dict[str, Path], folder: Path, rounds: int
) -> dict[tuple[str, str], list[Measurement]]:
    """Return the measurements by case and side; the sides take turns."""
    measured: dict[tuple[str, str], list[Measurement]] = {}
    for number in range(rounds):
        order = list(sides.items())[:: 1 if number % 2 == 0 else -1]
        for case in cases:
            for side, checkout in order:
                store = folder / f"store_{side}_{case.recipe.stem.removesuffix('_moved')}"
                if case.anew:
                    shutil.rmtree(store, ignore_errors=True)
                result = _run(checkout.resolve(), case.recipe, store, folder)
                measured.setdefault((case.name, side), []).append(result)
    return measured


def _run(checkout: Path, recipe: Path, store: Path, folder: Path) -> Measurement:
    command = [sys.executable, "-m", "curation.cli", "run", str(recipe), "--store", str(store)]
    others = _children()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    watch = _FirstRow(store, began)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch.start()
    _, errors = process.communicate()
    wall = time.monotonic() - began
    watch.ended.set()
    if process.returncode:
        raise SystemExit(errors)
    _wait_for_others(others)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measurement(wall, processor, watch.seconds)


class _FirstRow(threading.Thread):
    """Notes when a store that was empty has its first file with rows."""

    def __init__(self, store: Path, began: float) -> None:
        super().__init__(daemon=True)
        self._store, self._began = store, began
        self.ended, self.seconds = threading.Event(), float("nan")

    def run(self) -> None:
        """Look until there is one."""
        if self._store.exists():
            return
        while not self.ended.wait(0.02):
            if next(self._store.rglob("*.parquet"), None):
                self.seconds = time.monotonic() - self._began
                return


def _children() -> set[int]:
    """Return the processes that are children of this one, also those that it took over."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in listed.read_text().split()}


def _wait_for_others(before: set[int]) -> None:
    """Wait for the processes that a command has left, but for those that were there before."""
    while left := _children() - before:
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _print(measured: dict[tuple[str, str], list[Measurement]], sides: dict[str, Path]) -> None:
    names = [
        f"{field}, s ({side})" for field in ("wall", "first row", "processor") for side in sides
    ]
    ratios = ["wall, old to new", "processor, old to new"] if "old" in sides else []
    print("| command |", " | ".join([*names, *ratios]), "|")
    print("|---" * (len(names) + len(ratios) + 1) + "|")
    for case in dict.fromkeys(name for name, _ in measured):
        medians = {side: _medians(measured[case, side]) for side in sides}
        cells = [_shown(getattr(medians[side], field)) for field in FIELDS for side in sides]
        if ratios:
            old, new = medians["old"], medians["new"]
            cells += [f"{old.wall / new.wall:.2f}", f"{old.processor / new.processor:.2f}"]
        print(f"| {case} |", " | ".join(cells), "|")


FIELDS = ("wall", "first_row", "processor")


def _medians(measurements: list[Measurement]) -> Measurement:
    return Measurement(*(statistics.median(values) for values in zip(*measurements, strict=True)))


def _shown(seconds: float) -> str:
    return "" if seconds != seconds else f"{seconds:.1f}"


if __name__ == "__main__":
    main()
