"""Executes the notebooks of `examples/` in folders of their own, and writes their outputs into them.

    python scripts/run_notebooks.py                      # all of them
    python scripts/run_notebooks.py first_look           # one

It needs the extra `dev`. A test executes them too, and compares what they print with what they have,
but for cells with the tag `varies`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
VARIES = "varies"
"""Tag of a cell whose output is not the same every time, as of one that shows when a run was."""
MAX_BYTES = 200_000
"""Size of a notebook with its outputs."""


def notebooks() -> dict[str, Path]:
    """Return the notebooks by name."""
    return {path.stem: path for path in sorted(EXAMPLES.glob("*.ipynb"))}


def execute(path: Path, folder: Path) -> Any:
    """Execute a notebook in a folder that it may write to; return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
    try:
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=300, record_timing=False, resources=resources).execute()
    finally:
        os.environ["PYTHONPATH"] = before
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return _without_place(notebook, folder)


def _without_place(notebook: Any, folder: Path) -> Any:
    """Return a notebook whose outputs name no folder of this machine, and whose texts are one each."""
    import nbformat

    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = _joined(json.loads(json.dumps(cell.outputs).replace(f"{folder}/", "")))
            cell.outputs = [nbformat.from_dict(output) for output in outputs]
    return notebook


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs in which what was written to a stream, in parts of any size, is one."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        name = output.get("name")
        if name is not None and joined and joined[-1].get("name") == name:
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def printed(notebook: Any) -> dict[str, list[str]]:
    """Return the texts that cells print and show, by the id of the cell, without standard error."""
    return {
        cell.id: [_text(output) for output in cell.outputs if output.get("name") != "stderr"]
        for cell in notebook.cells
        if cell.cell_type == "code" and VARIES not in cell.metadata.get("tags", [])
    }


def _text(output: Any) -> str:
    shown = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return str(shown)


def main() -> None:
    """Execute notebooks, and write them."""
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *notebooks()], metavar="NAME")
    wanted = parser.parse_args().names or list(notebooks())
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(notebooks()[name], Path(folder).resolve())
        size = len(nbformat.writes(notebook))
        if size > MAX_BYTES:
            sys.exit(f"{name} would have {size:,} bytes; at most {MAX_BYTES:,} are kept")
        nbformat.write(notebook, notebooks()[name])
        print(f"{name}: {size:,} bytes")


if __name__ == "__main__":
    main()
