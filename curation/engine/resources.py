"""Where `schemas/` and `conf/` are: next to the package in a checkout, inside it once installed."""

from pathlib import Path

from curation.errors import StoreError

PACKAGE = Path(__file__).resolve().parent.parent


def resource_dir(name: str) -> Path:
    """Return a folder of the project, `schemas` or `conf`.

    Raises:
        StoreError: the folder is neither in the checkout nor in the installed package.
    """
    for folder in (PACKAGE.parent / name, PACKAGE / name):
        if folder.is_dir():
            return folder
    raise StoreError(
        f"The folder {name!r} is neither next to nor inside {PACKAGE}",
        fix="Reinstall the package, or run it from a checkout (make setup)",
    )
