"""Tags: names that people give to runs. What a tagged run needs is never removed."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from curation.activity import utc_now
from curation.errors import Detail, StoreError, unknown
from curation.store.layout import TAG_NAME
from curation.store.sealed_json import seal, unseal
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER, SUFFIX = "tags", ".json"
VALID_NAME = re.compile(TAG_NAME)
_BEGINNING = re.compile("[0-9a-f]*")
"""How the names of runs and of versions begin."""


@dataclass(frozen=True)
class Tag:
    """A name for a run.

    Attributes:
        name: the name.
        run: the run.
        created: time in UTC, ISO 8601.
    """

    name: str
    run: str
    created: str


def add_tag(store: Store, name: str, run: str) -> Tag:
    """Give a run a name.

    Raises:
        StoreError: the name is not valid, or is that of another run.
    """
    _check_name(name)
    tag = Tag(name, run, utc_now())
    if store.storage.create(tag_path(name), seal(asdict(tag))):
        return tag
    stored = find_tag(store, name)
    if stored is None or stored.run != run:
        holder = stored.run if stored else "a run that was removed since"
        raise StoreError(
            Detail(
                f"The tag {name!r} in {store.uri} is in use: it names {holder}",
                found=name,
                fix="Choose another name, or delete the tag first (curation tag "
                f"{name} --delete --store STORE)",
            )
        )
    return stored


def _check_name(name: str) -> None:
    if not VALID_NAME.fullmatch(name) or name.endswith(".tmp"):
        raise StoreError(
            Detail(
                f"{name!r} is no name for a tag",
                found=name,
                fix="Valid are up to 100 of the characters a-z, 0-9, '.', '_' and '-', with a letter "
                "or a digit first",
            )
        )
    if _BEGINNING.fullmatch(name):
        raise StoreError(
            Detail(
                f"{name!r} is no name for a tag: the name of a run or of a version may begin so, and "
                "the tag would hide it",
                found=name,
                fix=f"Use a sign or a letter from g to z too, as in 'v-{name[:90]}'",
            )
        )


def delete_tag(store: Store, name: str) -> None:
    """Delete a tag; its run stays until gc removes it.

    Raises:
        StoreError: there is no such tag.
    """
    if not VALID_NAME.fullmatch(name) or store.storage.status(tag_path(name)) is None:
        raise StoreError(unknown("tag", name, tag_names(store), where=store.uri))
    store.storage.delete([tag_path(name)])


def read_tags(store: Store) -> list[Tag]:
    """Return all tags by name.

    Raises:
        StoreError: one is damaged.
    """
    tags = [find_tag(store, name) for name in tag_names(store)]
    return [tag for tag in tags if tag is not None]


def tag_names(store: Store) -> list[str]:
    """Return the names of all tags, in order."""
    paths = (PurePosixPath(path) for path in sorted(store.storage.files(FOLDER)))
    return [path.name.removesuffix(SUFFIX) for path in paths if path.suffix == SUFFIX]


def find_tag(store: Store, name: str) -> Tag | None:
    """Return a tag, or None if there is none with this name.

    Raises:
        StoreError: it is damaged.
    """
    content = store.storage.read(tag_path(name)) if VALID_NAME.fullmatch(name) else None
    if content is None:
        return None
    try:
        spec = unseal(content)
        tag = Tag(spec["name"], spec["run"], spec["created"])
        if not all(isinstance(text, str) for text in (tag.name, tag.run, tag.created)):
            raise TypeError("its fields have other types")
        if tag.name != name:
            raise ValueError(f"it is that of tag {tag.name!r}")
        return tag
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.address(tag_path(name))} is damaged ({error})",
            fix=f"Delete the tag (curation tag {name} --delete --store STORE), and tag the run again",
        ) from error


def tag_path(name: str) -> str:
    """Return the path of a tag within a store."""
    return f"{FOLDER}/{name}{SUFFIX}"
