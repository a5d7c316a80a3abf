"""Where folders of the project are: inside the package once installed, next to it in a checkout."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from curation.errors import StoreError

PACKAGE = Path(__file__).resolve().parent.parent


def resource_dir(name: str) -> Path:
    """Return a folder of the project: `schemas`, `conf`, `jobs`, `airflow_dags` or `docs`.

    Raises:
        StoreError: the folder is neither in the checkout nor in the installed package.
    """
    # Another package may have put a folder of that name next to the installed one.
    for folder in (PACKAGE / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise StoreError(
        f"The folder {name!r} is neither next to nor inside {PACKAGE}",
        fix="Reinstall the package, or run it from a checkout (make setup)",
    )


def project_module(name: str) -> ModuleType:
    """Return a module of the project that is next to the package in a checkout, as `quickstart.build`.

    Raises:
        ModuleNotFoundError: it is not there either, or lacks what it imports.
    """
    inside = f"{PACKAGE.name}.{name.partition('.')[0]}"
    return import_module(f"{PACKAGE.name}.{name}" if find_spec(inside) else name)
