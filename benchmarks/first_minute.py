"""From an empty virtual environment to a dataset: the seconds of each step that a newcomer waits for.

    python -m benchmarks.first_minute [--repeats 3] [--wheel FILE]
    python -m benchmarks.first_minute --tiny

The wheel is built from this checkout, or is the one named by `--wheel`, as that of another commit. It
is installed with `[cpu,java]` into a new environment by uv, whose cache may be warm. Then, in new
folders: `curation quickstart`; the same recipe again with nothing to do, and with a moved threshold;
and a run on a folder of 1,000 photographs (500 px) made here, with the time of its first finished rows.
"Processor" adds up the processes whose end their parents saw, some of Spark's workers not among them:
it is a lower bound. A tiny run takes the environment that it runs in, and no quickstart.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks.airflow import free_port
from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from quickstart.drawings import DRAWINGS
from quickstart.pictures import Studio
from scripts.check_wheel import build, install

ROOT = Path(__file__).resolve().parent.parent
SIDE = 500
PR_SET_CHILD_SUBREAPER = 36
RECIPE = """\
name: photographs
sources:
  - {name: photographs, role: pool, format: folder, path: photographs}
  - {name: liked, role: seed, format: folder, path: liked}
embed: {encoders: {semantic: {model: vit_micro}, copy: {model: copy_micro}}}
cluster: {encoder: semantic, levels: [20]}
retrieve: [{name: like-these, seeds: liked, strategy: sample, k: 8}]
assemble: {pixels: true}
"""
Figures = dict[str, list[tuple[float, float | None]]]
"""The seconds, and the processor seconds, of each repetition of a step."""


class Measured:
    """Runs commands, and adds what they take to figures.

    Args:
        figures: get the seconds by step.
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        # The JVM outlives the Python that started it, and only a parent learns what it used.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def add(self, step: str, seconds: float, processor: float | None = None) -> None:
        """Add the seconds of a step."""
        self.figures.setdefault(step, []).append((seconds, processor))
        print(f"{step}: {seconds:.1f} s", file=sys.stderr, flush=True)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure the body of a `with` statement, which starts commands."""
        before, started = _processor_seconds(), time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        _wait_for_children()
        self.add(step, seconds, _processor_seconds() - before)

    def command(
        self, step: str, folder: Path, *command: str | Path, watch: Callable[[], bool] | None = None
    ) -> None:
        """Run a command; end if it fails.

        Args:
            step: its name.
            folder: to run it in.
            command: the program and its arguments.
            watch: is true from the moment that is a step of its own, `step: first rows`.
        """
        with self.timed(step):
            started, seen = time.perf_counter(), watch is None
            with tempfile.TemporaryFile() as log:
                process = subprocess.Popen(
                    [str(part) for part in command], cwd=folder, stdout=log, stderr=log
                )
                while process.poll() is None:
                    if not seen and watch is not None and watch():
                        seen = True
                        self.add(f"{step}: first rows finished", time.perf_counter() - started)
                    time.sleep(0.01)
                if process.returncode:
                    log.seek(0)
                    raise SystemExit(f"{step} failed:\n{log.read().decode(errors='replace')}")


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_children() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def make_photographs(folder: Path, count: int, seed: int) -> None:
    """Write pictures with a longer side of 500 px, of which no two are copies.

    Seven in ten are scenes cut from photographs of installed libraries, the others are drawings.

    Args:
        folder: to make.
        count: pictures.
        seed: of the pictures.
    """
    folder.mkdir(parents=True)
    studio, kinds = Studio(seed), list(DRAWINGS)
    for number in range(count):
        scene = number % 10 < 7
        made = studio.any_scene() if scene else studio.drawing(kinds[number % len(kinds)])
        picture = made.image()
        scale = SIDE / max(picture.size)
        size = round(picture.width * scale), round(picture.height * scale)
        picture.resize(size, Image.Resampling.BICUBIC).save(
            folder / f"{number:04d}.jpg", quality=88
        )


def try_quickstart(measured: Measured, curation: Path, folder: Path) -> None:
    """Measure the quickstart, a second run of its recipe, and one with a moved threshold."""
    port = str(free_port())
    command = (curation, "quickstart", folder, "--port", port)
    measured.command("`curation quickstart`", folder.parent, *command)
    again = (curation, "run", "quickstart.yaml", "--store", "data/store")
    measured.command("run again, nothing to do", folder, *again)
    recipe = folder / "quickstart.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("{at_least: 64}", "{at_least: 80}"), encoding="utf-8")
    measured.command("run again, threshold moved", folder, *again)


def try_photographs(measured: Measured, curation: Path, folder: Path, count: int) -> None:
    """Measure a run on a folder of photographs, and a second run with nothing to do."""
    make_photographs(folder / "photographs", count, 1)
    make_photographs(folder / "liked", 20, 2)
    (folder / "photographs.yaml").write_text(RECIPE, encoding="utf-8")
    run, step = (curation, "run", "photographs.yaml", "--store", "store"), f"{count:,} photographs"

    def has_rows() -> bool:
        return any((folder / "store" / "tables").glob("**/*.parquet"))

    measured.command(step, folder, *run, watch=has_rows)
    measured.command(f"{step} again, nothing to do", folder, *run)


def rows_of(figures: Figures) -> Iterator[str]:
    """Yield the rows of a Markdown table: the median of each step, its range, and the processor."""
    yield "| step | s | from – to | processor s |"
    yield "|---|---|---|---|"
    for step, measures in figures.items():
        seconds = [one for one, _ in measures]
        used = [one for _, one in measures if one is not None]
        processor = f"{median(used):.1f}" if used else "–"
        spread = f"{min(seconds):.1f} – {max(seconds):.1f}"
        yield f"| {step} | {median(seconds):.1f} | {spread} | {processor} |"


def environment(measured: Measured, options: argparse.Namespace, folder: Path) -> Path:
    """Return the `curation` to measure: of a new environment, or of this one if the run is tiny."""
    if options.tiny:
        return Path(sys.executable).with_name("curation")
    wheel = options.wheel or build(folder)
    with measured.timed("installation, by uv"):
        binaries = install(wheel, folder, sys.executable)
    return binaries / "curation"


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    options = parse(parser, {"repeats": 1, "photographs": 60})
    figures: Figures = {}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="curation-benchmark-") as name:
        measured = Measured(figures)
        curation = environment(measured, options, Path(name))
        for repeat in range(options.repeats):
            folder = Path(name, str(repeat))
            folder.mkdir()
            if not options.tiny:
                try_quickstart(measured, curation, folder / "quickstart")
            try_photographs(measured, curation, folder / "photographs", options.photographs)
    print(f"{conditions()}; {options.repeats} repetitions; load before {load_before:.1f}\n")
    print("\n".join(rows_of(figures)))


if __name__ == "__main__":
    main()
