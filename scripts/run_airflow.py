"""Runs Airflow on this machine, reachable from it alone, with a DAG for each recipe of a folder.

    make airflow                                                # the quickstart
    make airflow RECIPES=/data/recipes STORE=/data/store        # yours

Started are a scheduler, a DAG processor and a web server on loopback. The logs and the database
(SQLite) are in `data/airflow`; AIRFLOW__DATABASE__SQL_ALCHEMY_CONN names another database. Ctrl-C ends
them all.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.daemons import alone_in, end_on_signals, stop_sessions

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
GPU_POOL = "curation_gpu"
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
POSTGRESQL = "postgresql+psycopg2"
PASSWORDS = "simple_auth_manager_passwords.json.generated"
READY_S = 180.0


def environment(home: Path, port: int, recipes: Path, store: str) -> dict[str, str]:
    """Return the environment of Airflow's processes.

    Variables of the shell replace defaults, but neither the options of this script nor where Airflow
    listens.
    """
    defaults = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "CURATION_HOME": str(ROOT),
        "CURATION_VENV": str(ROOT / ".venv"),
    }
    fixed = {
        **without_proxies(os.environ),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        # The processes trust each other by it; it ends with them.
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(64),
        "CURATION_RECIPES": str(recipes),
        # As RECIPES, it starts here; a relative one would start at the folder of each recipe.
        "CURATION_STORE": store if "://" in store else str(Path(store).absolute()),
    }
    return {**defaults, **os.environ, **fixed}


def without_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which no proxy is asked for what is on loopback.

    The processes call the web server, and a proxy would look for it on its own machine.
    """
    listed = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    hosts = ",".join(filter(None, (listed, HOST, "localhost")))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def quickstart_recipe(folder: Path) -> Path:
    """Write the recipe of the quickstart with absolute paths into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "conf" / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    absolute = text.replace("data/quickstart", str(ROOT / "data" / "quickstart"))
    (folder / "quickstart.yaml").write_text(absolute, encoding="utf-8")
    return folder


def check_recipes(place: Path) -> None:
    """Check that there is a recipe.

    Raises:
        SystemExit: there is none.
    """
    if not place.exists():
        raise SystemExit(f"No folder or recipe {place.absolute()}: correct RECIPES.")
    if place.is_dir() and not any(place.glob("*.y*ml")):
        raise SystemExit(f"No recipe (*.yaml) in {place.absolute()}: `curation init` writes one.")


def check_port(port: int) -> None:
    """Check that nothing listens where the web server will: it would be taken for this one.

    Raises:
        SystemExit: another process does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SystemExit(
                f"Port {port} of {HOST} cannot be used ({error.strerror}): name another one "
                "(make airflow AIRFLOW_PORT=…; --port)."
            ) from error


def check_database(variables: Mapping[str, str]) -> None:
    """Check that the address of a database names the driver that is installed.

    Raises:
        SystemExit: it names none; SQLAlchemy then takes one that is not.
    """
    scheme = variables.get(DATABASE, "").partition("://")[0]
    if scheme in ("postgres", "postgresql"):
        raise SystemExit(
            f"{DATABASE} begins with {scheme}://, which names no driver: write {POSTGRESQL}://…"
        )


def start(
    command: Sequence[str], variables: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a process of Airflow, in a session of its own, with its output in a log."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [str(program()), *command],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def program() -> Path:
    """Return the program `airflow`."""
    return ROOT / ".venv-airflow" / "bin" / "airflow"


def call(variables: Mapping[str, str], *command: str) -> None:
    """Run a command of Airflow to its end.

    Raises:
        SystemExit: it failed; with its output.
    """
    done = _run(variables, *command)
    if done.returncode:
        raise SystemExit(f"airflow {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def add_pool(variables: Mapping[str, str]) -> None:
    """Add the pool of tasks that use GPUs; one that is there keeps its slots.

    Raises:
        SystemExit: it cannot be added.
    """
    if _run(variables, "pools", "get", GPU_POOL).returncode:
        call(variables, "pools", "set", GPU_POOL, "1", "Tasks that use GPUs")


def _run(variables: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program()), *command], env=dict(variables), capture_output=True, text=True, check=False
    )


def wait_until_ready(
    port: int, processes: Mapping[str, subprocess.Popen[bytes]], logs: Path
) -> None:
    """Wait until the web server answers.

    Raises:
        SystemExit: a process ended, or the server does not answer in time.
    """
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(
                    f"{name} ended with status {process.returncode}: see {logs / name}.log"
                )
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.3)
    raise SystemExit(f"Airflow does not answer at {HOST}:{port}: see {logs}")


def main() -> None:
    """Run Airflow until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=ROOT / "data" / "airflow")
    parser.add_argument("--port", type=int, default=8080, help="of the web server, on loopback")
    parser.add_argument("--recipes", type=Path, help="folder of recipes; default: the quickstart")
    parser.add_argument("--store", help="folder or URI of the store; default: data/store")
    options = parser.parse_args()
    if not program().exists():
        raise SystemExit(f"No {program()}: run `make setup-airflow`.")
    if options.recipes:
        check_recipes(options.recipes)
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    # It holds the password of the web page, and the key of connections.
    home.chmod(0o700)
    recipes = options.recipes or quickstart_recipe(home / "recipes")
    store = options.store or str(ROOT / "data" / "store")
    variables = environment(home, options.port, recipes.absolute(), store)
    end_on_signals()
    with alone_in(home):
        check_port(options.port)
        check_database(variables)
        print("Setting up the database …", flush=True)
        call(variables, "db", "migrate")
        add_pool(variables)
        run(variables, home, options.port)


def run(variables: Mapping[str, str], home: Path, port: int) -> None:
    """Run the processes until Ctrl-C, or until one ends."""
    server = ["api-server", "--host", HOST, "--port", str(port)]
    others = {
        # Its server of logs would listen on all addresses; the web server reads the files instead.
        "scheduler": ["scheduler", "--skip-serve-logs"],
        "dag-processor": ["dag-processor"],
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        processes["api-server"] = start(server, variables, home / "api-server.log")
        # Tasks that cannot reach the web server fail: after a restart they would use up their attempts.
        wait_until_ready(port, processes, home)
        for name, command in others.items():
            processes[name] = start(command, variables, home / f"{name}.log")
        print(f"Airflow is at http://{HOST}:{port} (user admin, password in {home / PASSWORDS}).")
        print(f"Recipes: {variables['CURATION_RECIPES']}. Store: {variables['CURATION_STORE']}.")
        print("Ctrl-C ends it.", flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(1)
        ended = [name for name, process in processes.items() if process.poll() is not None]
        raise SystemExit(f"{', '.join(ended)} ended: see the logs in {home}")
    except KeyboardInterrupt:
        print("Ending …", flush=True)
    finally:
        stop_sessions(processes.values())


if __name__ == "__main__":
    main()
