"""Makes one fault happen at a chosen moment of a run, whichever of its processes comes to it.

CURATION_FAULT is a JSON object: `kind` (a key of FAULTS), `stage` and `number` (the moment: after so
many operations of a stage), `log` (a file in which the processes count together), and what the kind
needs. An operation is a batch that is written, or a fragment, a version or a commit that is recorded.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fault = dict[str, Any]
HAPPENED, SECOND = "fault", "second"
"""Lines of the log: the fault happened; the process of the second run."""
EXECUTOR = "CoarseGrainedExecutorBackend"
"""The class of the executors of a cluster."""
FULL_FOR = 5
"""Operations that find the disk full."""
WAIT_S = 60.0


def install() -> None:
    """Count the operations of this process."""
    from curation.engine.fragment_writer import FragmentWriter
    from curation.runner import step as runner
    from curation.store.step_log import Lease
    from curation.store.store import Store

    places: list[tuple[Any, str]] = [
        *(
            (FragmentWriter, "write"),
            (Store, "put_record"),
            (Store, "replace_record"),
            (Store, "put_version"),
            (Lease, "commit"),
        ),
    ]
    for owner, name in places:
        setattr(owner, name, _counted(getattr(owner, name)))
    step: Any = runner
    begin = step._bring_up_to_date

    def begin_stage(planned: Any, *rest: Any) -> Any:
        _note(f"stage {planned.name}")
        _note(f"session {os.getsid(0)}")
        return begin(planned, *rest)

    step._bring_up_to_date = begin_stage


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        _operation()
        return function(*arguments, **options)

    return call


def _note(line: str) -> None:
    with Path(_fault()["log"]).open("a") as log:
        log.write(f"{line}\n")


def _fault() -> Fault:
    fault: Fault = json.loads(os.environ["CURATION_FAULT"])
    return fault


def _operation() -> None:
    fault = _fault()
    _note("operation")
    lines = Path(fault["log"]).read_text().splitlines()
    if f"stage {fault['stage']}" not in lines:
        return
    later = lines[lines.index(f"stage {fault['stage']}") :]
    count = later.count("operation")
    if count >= fault["number"] and (HAPPENED not in lines or fault["kind"] == "full_disk"):
        FAULTS[fault["kind"]](fault, count - fault["number"])


def _kill_run(fault: Fault, _: int) -> None:
    """Every process of the run is killed, this one last."""
    _note(HAPPENED)
    _kill_session(_session_of_run(fault))


def _kill_process(fault: Fault, _: int) -> None:
    """The process that works is killed: a worker, or the run itself."""
    _note(HAPPENED)
    _kill(os.getpid())


def _kill_jvm(fault: Fault, _: int) -> None:
    """The JVM of the driver is killed."""
    _note(HAPPENED)
    session = _session_of_run(fault)
    for pid in _processes():
        if _session(pid) == session and _name(pid) == "java":
            _kill(pid)


def _kill_executor(fault: Fault, _: int) -> None:
    """An executor of a cluster is killed; its worker starts another one."""
    _note(HAPPENED)
    executors = [p for p in _processes() if _session(p) in fault["workers"] and _is_executor(p)]
    if executors:
        _kill(random.Random(fault["seed"]).choice(sorted(executors)))


def _kill_worker(fault: Fault, _: int) -> None:
    """A worker of a cluster is killed, with its executors."""
    _note(HAPPENED)
    _kill_session(random.Random(fault["seed"]).choice(fault["workers"]))


def _full_disk(fault: Fault, since: int) -> None:
    """The disk is full for some operations."""
    _note(HAPPENED)
    if since < FULL_FOR:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fault["store"])


def _files(store: str) -> list[Path]:
    below = (path for path in Path(store).rglob("*") if path.is_file())
    # A beat is rewritten by its holder, and no document names it.
    return sorted(path for path in below if path.suffix != ".beat")


def _flip(fault: Fault, _: int) -> None:
    """A byte of a file of the store changes."""
    _note(HAPPENED)
    files = [path for path in _files(fault["store"]) if path.stat().st_size]
    if files:
        rng = random.Random(fault["seed"])
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 0xFF
        path.write_bytes(content)


def _remove(fault: Fault, _: int) -> None:
    """A file of the store vanishes."""
    _note(HAPPENED)
    files = _files(fault["store"])
    if files:
        random.Random(fault["seed"]).choice(files).unlink(missing_ok=True)


def _second_run(fault: Fault, _: int) -> None:
    """Another run of the same recipe starts on the store."""
    _note(HAPPENED)
    environment = {name: value for name, value in os.environ.items() if name != "CURATION_FAULT"}
    with Path(f"{fault['log']}.second").open("wb") as out:
        process = subprocess.Popen(
            fault["second"], env=environment, stdout=out, stderr=out, start_new_session=True
        )
    _note(f"{SECOND} {process.pid}")


def _kill_server(fault: Fault, _: int) -> None:
    """The server of the store, or its gateway, is killed; whoever watches starts it again."""
    _note(HAPPENED)
    _kill(int(Path(fault["server"]).read_text()))


FAULTS: dict[str, Callable[[Fault, int], None]] = {
    "kill_run": _kill_run,
    "kill_process": _kill_process,
    "kill_jvm": _kill_jvm,
    "kill_executor": _kill_executor,
    "kill_worker": _kill_worker,
    "full_disk": _full_disk,
    "flip": _flip,
    "remove": _remove,
    "second_run": _second_run,
    "kill_gateway": _kill_server,
    "kill_server": _kill_server,
}


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _session_of_run(fault: Fault) -> int:
    """Return the session of the run, which is that of Python workers on this machine alone."""
    lines = Path(fault["log"]).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("session "))


def _kill_session(session: int) -> None:
    """Kill the processes of a session, this one last if it is one of them."""
    for pid in _processes():
        if pid != os.getpid() and _session(pid) == session:
            _kill(pid)
    if os.getsid(0) == session:
        _kill(os.getpid())


def _is_executor(pid: int) -> bool:
    try:
        return EXECUTOR in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    if pid == os.getpid():
        # The signal ends this process before the next line of it runs, or a moment later.
        time.sleep(WAIT_S)
