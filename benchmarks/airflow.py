"""A run of the quickstart by Airflow's scheduler, beside the command line.

    python -m benchmarks.airflow
    python -m benchmarks.airflow --tiny

Both sides run the same recipe on fresh stores, in turn. Airflow is up already
(`scripts/run_airflow.py`); its side begins when the run is asked for and ends when its state is
`success`. Then both run again with nothing to do. It needs `.venv-airflow` (`make setup-airflow`).
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv-airflow" / "bin"
PORT = 8766
POLL_S = 0.25
LIMIT_S = 1800.0


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def web(folder: Path, share: int) -> Iterator[Path]:
    """Serve the mini-web; yield the recipe that reads it, or one row of `share`."""
    build = [sys.executable, "-m", "quickstart", "build", str(folder), "--port", str(PORT)]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for path in (folder / "pool").glob("*.parquet"):
        rows = pq.read_table(path)
        pq.write_table(rows.take(list(range(0, rows.num_rows, share))), path)
    text = (ROOT / "conf" / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    recipe = folder.parent / "recipes" / "quickstart.yaml"
    recipe.parent.mkdir()
    recipe.write_text(text.replace("data/quickstart", str(folder)), encoding="utf-8")
    serve = [sys.executable, "-m", "quickstart", "serve", str(folder), "--port", str(PORT), "--"]
    server = subprocess.Popen([*serve, "sleep", "100000"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield recipe
    finally:
        server.terminate()
        server.wait()


@contextmanager
def scheduler(home: Path, recipes: Path) -> Iterator[None]:
    """Run Airflow with the DAG of the recipe."""
    command = [sys.executable, str(ROOT / "scripts" / "run_airflow.py"), "--home", str(home)]
    command += ["--port", str(free_port()), "--recipes", str(recipes), "--store", "unused"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CURATION_VENV": sys.prefix}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if "Airflow is at" in line)
        yield
    finally:
        process.terminate()
        process.wait(60)


def by_airflow(home: Path, store: Path, run: str) -> float:
    """Ask for a run of the DAG; return the seconds until it has ended."""
    conf = json.dumps({"store": str(store)})
    trigger = [
        str(BIN / "airflow"),
        "dags",
        "trigger",
        "quickstart",
        "--run-id",
        run,
        "--conf",
        conf,
    ]
    environment = {**os.environ, "AIRFLOW_HOME": str(home)}
    deadline = time.monotonic() + LIMIT_S
    while subprocess.run(trigger, env=environment, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("Airflow does not know the DAG")
    started = time.monotonic()
    while (state := state_of(home, run)) not in ("success", "failed"):
        time.sleep(POLL_S)
    if state == "failed":
        raise SystemExit(f"the run failed: see {home / 'logs'}")
    return time.monotonic() - started


def state_of(home: Path, run: str) -> str | None:
    """Return the state of a run."""
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
        rows = database.execute("select state from dag_run where run_id = ?", (run,)).fetchall()
    return rows[0][0] if rows else None


def by_command(recipe: Path, store: Path) -> float:
    """Run the recipe on the command line; return the seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "curation.cli", "run", str(recipe), "--store", str(store)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started


def main() -> None:
    """Measure both sides in turn."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=int, default=1, help="read one row of the list of so many")
    options = parse(parser, {"rounds": 1, "share": 20})
    print(f"{conditions()}\n")
    seconds: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="curation-airflow-") as temporary,
        web(Path(temporary) / "web", options.share) as recipe,
        scheduler(Path(temporary) / "home", recipe.parent),
    ):
        home = Path(temporary) / "home"
        for number in range(options.rounds):
            stores = {side: Path(temporary) / f"{side}-{number}" for side in ("command", "airflow")}
            for what in ("whole run", "nothing to do"):
                run = f"{what.split()[0]}-{number}"
                taken = by_command(recipe, stores["command"])
                seconds.setdefault(f"{what}, command line", []).append(taken)
                taken = by_airflow(home, stores["airflow"], run)
                seconds.setdefault(f"{what}, Airflow", []).append(taken)
    print("| | s, median | all |\n|---|---|---|")
    for name, values in seconds.items():
        print(
            f"| {name} | {statistics.median(values):.1f} | {', '.join(f'{v:.1f}' for v in values)} |"
        )
    whole = [
        statistics.median(seconds[f"whole run, {side}"]) for side in ("Airflow", "command line")
    ]
    print(f"\nwhole run, Airflow beside the command line: {whole[0] / whole[1]:.2f}")


if __name__ == "__main__":
    main()
