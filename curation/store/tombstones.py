"""Tombstones: what was taken down, as keyed hashes, and nothing of its content.

    tombstones/key.json               the random key of the hashes
    tombstones/<name>.json            a tombstone: who, when, why, and the hashes of what was named
    tombstones/hits/<name>.json       what was found of it in the store, and in which files
    tombstones/removed/<name>.json    what a gc removed of it

A tombstone is in force once its file is there. Files are only added. A data file that holds what was
taken down counts as vanished: it is computed again, and `curation gc` removes it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

from curation.errors import StoreError
from curation.store.sealed_json import seal, unseal
from curation.store.storage.base import Storage, join_address
from curation.store.url_hosts import hosts_of, without_scheme

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER = "tombstones"
HITS = f"{FOLDER}/hits"
REMOVED = f"{FOLDER}/removed"
KEY = f"{FOLDER}/key.json"
KEY_BYTES = 32
BACKUP = "Put the file back from a backup of the store"
"""What mends a record of what was taken down: nobody else knows what it said."""
HASH_DIGITS = 32
IMAGE_ID_DIGITS = 32
"""An image_id is the beginning of the SHA-256 of the original bytes."""

Kind = Literal["url", "host", "image", "pair"]
"""What a hash is of. `image` is of an image_id, and `pair` of a pair_id."""

T = TypeVar("T")
Named = TypeVar("Named", "Tombstone", "Hits")


@dataclass(frozen=True)
class Likeness:
    """A picture, as its perceptual hash.

    Attributes:
        phash: the hash in hex.
        within: largest number of bits in which the hash of a picture like it differs.
    """

    phash: str
    within: int


@dataclass(frozen=True)
class Descriptor:
    """A picture, as its vector by a copy descriptor.

    Attributes:
        encoder: identity of the encoder; vectors of others are not compared with it.
        vector: its numbers as little-endian float16, in hex.
        at_least: smallest cosine similarity of a picture like it.
    """

    encoder: Mapping[str, Any]
    vector: str
    at_least: float


@dataclass(frozen=True)
class Tombstone:
    """What somebody asked to take down.

    Attributes:
        name: begins with the time.
        time: in UTC, ISO 8601.
        by: who asked, or who acts for them.
        reason: why.
        hashes: keyed hashes by kind.
        likes: pictures; what looks like them is taken down.
        descriptors: the same pictures by copy descriptors, which also find edited copies.
        signature: keyed hash of all else, see `Takedowns.sign`.
    """

    name: str
    time: str
    by: str
    reason: str
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    likes: tuple[Likeness, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    signature: str = ""


@dataclass(frozen=True)
class Hits:
    """What a search of the store found of all tombstones.

    Attributes:
        name: begins with the time.
        tombstones: names of the tombstones that were searched for.
        pairs: keyed hashes of the pairs that are gone.
        images: keyed hashes of the images that are gone, whichever pair has them.
        orphans: keyed hashes of images that no other pair has. They may come back with another pair.
        returned: those of earlier orphans that another pair has by now.
        files: files of the store that hold any of it.
        rows: number of rows with any of it, by table or work folder.
        since: when the search began, in seconds since 1970 by the clock of the storage.
        working: the stages that runs worked on then, which may have written more files since.
    """

    name: str
    tombstones: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    since: float = 0.0
    working: tuple[str, ...] = ()


@dataclass(frozen=True)
class Takedowns:
    """All tombstones of a store.

    Attributes:
        key: of the hashes.
        tombstones: the tombstones.
        hits: what was found of them.
    """

    key: bytes
    tombstones: tuple[Tombstone, ...] = ()
    hits: tuple[Hits, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of all tombstones."""
        return frozenset(tombstone.name for tombstone in self.tombstones)

    @property
    def unsearched(self) -> frozenset[str]:
        """The names of tombstones for which the store was not searched to the end."""
        return self.names - {name for hits in self.hits for name in hits.tombstones}

    def unsearched_since(self, stage: str) -> float | None:
        """Return since when files of a stage may have been written that no search has seen.

        Runs were at work on it during the last search of the store. None if there were none.
        """
        searches = [hits for hits in self.hits if hits.tombstones]
        last = max(searches, key=lambda hits: hits.since, default=None)
        return last.since if last is not None and stage in last.working else None

    @cached_property
    def hashes(self) -> Mapping[str, frozenset[str]]:
        """The hashes of what is gone, by kind."""
        by_kind: dict[str, set[str]] = {kind: set() for kind in get_args(Kind)}
        for tombstone in self.tombstones:
            for kind, hashes in tombstone.hashes.items():
                by_kind[kind].update(hashes)
        for hits in self.hits:
            by_kind["pair"].update(hits.pairs)
            by_kind["image"].update(hits.images)
        return {kind: frozenset(hashes) for kind, hashes in by_kind.items()}

    @cached_property
    def orphans(self) -> frozenset[str]:
        """Hashes of images that only pairs had that are gone."""
        orphans: set[str] = set()
        for hits in sorted(self.hits, key=lambda hits: hits.name):
            orphans = (orphans - {*hits.returned}) | {*hits.orphans}
        return frozenset(orphans)

    @cached_property
    def files(self) -> frozenset[str]:
        """The files that hold what is gone; some may have been removed since."""
        return frozenset(path for hits in self.hits for path in hits.files)

    @cached_property
    def likes(self) -> tuple[Likeness, ...]:
        """The pictures of all tombstones."""
        return tuple(dict.fromkeys(like for t in self.tombstones for like in t.likes))

    @cached_property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """The vectors of pictures of all tombstones."""
        return tuple(each for tombstone in self.tombstones for each in tombstone.descriptors)

    def hash_of(self, kind: Kind, value: str) -> str:
        """Return the keyed hash of a value, as it is in a tombstone."""
        text = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.key, text, hashlib.sha256).hex()[:HASH_DIGITS]

    def has(self, kind: Kind, value: str) -> bool:
        """Whether a value is one of those that are gone."""
        hashes = self.hashes[kind]
        return bool(hashes) and self.hash_of(kind, value) in hashes

    def has_url(self, url: str) -> bool:
        """Whether a URL is gone, or its host or a domain above that.

        Args:
            url: normalised; one that cannot be, as it is. The scheme makes no difference.
        """
        if self.has("url", without_scheme(url)):
            return True
        return bool(self.hashes["host"]) and any(self.has("host", h) for h in hosts_of(url))

    def has_image(self, sha256: str) -> bool:
        """Whether an image is gone.

        Args:
            sha256: of its original bytes in hex, or its image_id.
        """
        return self.has("image", sha256[:IMAGE_ID_DIGITS].lower())

    def is_withheld(self, identity: str) -> bool:
        """Whether an id in a file that holds what is gone is that of a pair or an image of it."""
        if self.has("pair", identity) or self.has_image(identity):
            return True
        return bool(self.orphans) and self.hash_of("image", identity) in self.orphans

    def sign(self, spec: Mapping[str, Any]) -> str:
        """Return a keyed hash of a record, by which a change of it shows."""
        unsigned = {name: value for name, value in spec.items() if name != "signature"}
        return hmac.digest(self.key, seal(unsigned), hashlib.sha256).hex()


def new_name() -> str:
    """Return a name for a file here that no other has; it begins with the time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"


def read_takedowns(storage: Storage) -> Takedowns | None:
    """Return the tombstones of a store; None if it has none. One listing tells.

    Raises:
        StoreError: one is damaged, so nobody knows what must not be shown.
    """
    names = [p for p in sorted(storage.files(FOLDER)) if p.endswith(".json") and p != KEY]
    if not names:
        return None
    tombstones = (_named(storage, path, _tombstone) for path in names)
    paths = [p for p in sorted(storage.files(HITS)) if p.endswith(".json")]
    hits = (_named(storage, path, _hits) for path in paths)
    return Takedowns(_key(storage), tuple(tombstones), tuple(hits))


def open_takedowns(storage: Storage) -> Takedowns:
    """Return the tombstones of a store; without any, with the key for the first one."""
    if storage.read(KEY) is None:
        storage.create(KEY, seal({"key": secrets.token_hex(KEY_BYTES)}))
    return read_takedowns(storage) or Takedowns(_key(storage))


def put_tombstone(storage: Storage, tombstone: Tombstone) -> None:
    """Write a tombstone. From now on it is in force."""
    storage.write(f"{FOLDER}/{tombstone.name}.json", seal(asdict(tombstone)))


def put_hits(storage: Storage, hits: Hits) -> None:
    """Write what a search found."""
    storage.write(f"{HITS}/{hits.name}.json", seal(asdict(hits)))


def put_removed(storage: Storage, spec: Mapping[str, Any]) -> None:
    """Write what a gc removed."""
    storage.write(f"{REMOVED}/{new_name()}.json", seal(spec))


def _key(storage: Storage) -> bytes:
    return _parsed(storage, KEY, lambda spec: bytes.fromhex(spec["key"]))


def _read(storage: Storage, path: str) -> dict[str, Any]:
    content = storage.read(path)
    try:
        if content is None:
            raise FileNotFoundError("it is missing")
        spec: dict[str, Any] = unseal(content)
        return spec
    except (ValueError, FileNotFoundError) as error:
        address = join_address(storage.uri, path)
        raise StoreError(
            f"{address} cannot be read ({error}), so nobody knows which rows were taken down",
            fix=BACKUP,
        ) from error


def _named(storage: Storage, path: str, parse: Callable[[Mapping[str, Any]], Named]) -> Named:
    """Return what a record says.

    Raises:
        StoreError: as `_parsed`; or another record is in its place, so that its own is lost.
    """
    record = _parsed(storage, path, parse)
    if path.rpartition("/")[2] != f"{record.name}.json":
        raise StoreError(
            f"{join_address(storage.uri, path)} is that of {record.name}, so nobody knows which rows "
            "were taken down",
            fix=BACKUP,
        )
    return record


def _parsed(storage: Storage, path: str, parse: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what a record says.

    Raises:
        StoreError: it is damaged, or says what this version does not know.
    """
    try:
        return parse(_read(storage, path))
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{join_address(storage.uri, path)} was written by another version of curation, so "
            "this one does not know which rows were taken down",
            fix="Use that version, or a newer one",
        ) from error


def _tombstone(spec: Mapping[str, Any]) -> Tombstone:
    if spec["hashes"].keys() - set(get_args(Kind)):
        raise KeyError("hashes")
    hashes = {kind: tuple(values) for kind, values in spec["hashes"].items()}
    likes = tuple(Likeness(**like) for like in spec["likes"])
    descriptors = tuple(Descriptor(**each) for each in spec.get("descriptors", ()))
    return Tombstone(**{**spec, "hashes": hashes, "likes": likes, "descriptors": descriptors})


def _hits(spec: Mapping[str, Any]) -> Hits:
    lists = {n: tuple(v) for n, v in spec.items() if isinstance(v, list)}
    return Hits(**{**spec, **lists})


def sorted_hashes(takedowns: Takedowns, kind: Kind, values: Iterable[str]) -> tuple[str, ...]:
    """Return the hashes of some values in order."""
    return tuple(sorted({takedowns.hash_of(kind, value) for value in values}))
