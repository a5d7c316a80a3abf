"""Takes rows down: writes a tombstone, and searches the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING

from curation.activity import utc_now
from curation.errors import Detail, RecipeError, start_of_paths
from curation.media.pictures.likeness import likeness
from curation.media.regular_file import open_regular
from curation.media.web.fetch_error import FetchError
from curation.media.web.host_names import canonical_host
from curation.media.web.urls import InvalidURLError, normalize
from curation.runner.gc.taken_down import search_beside_runs
from curation.runner.takedown.close import close_folders, delete_reports
from curation.runner.takedown.hosts import rows_of_hosts
from curation.runner.takedown.search import rows_named
from curation.runner.takedown.texts import mentions
from curation.stages.fetch.params import FetchParams
from curation.store.removal import hold_removal
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.tombstones import (
    IMAGE_ID_DIGITS,
    KEY_BYTES,
    Hits,
    Kind,
    Likeness,
    Takedowns,
    Tombstone,
    new_name,
    open_takedowns,
    put_tombstone,
    sorted_hashes,
)
from curation.store.url_hosts import without_scheme

if TYPE_CHECKING:
    from curation.runner.takedown.copies import FoundCopies

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SHA256_DIGITS = 64
MAX_LINES_NAMED = 10
WITHIN = 24
_COMMENT = re.compile(r"(^|\s)#.*")
"""A `#` within a URL begins its fragment."""
_BETWEEN_WORDS = re.compile(r"[\s@<>()\"',;]+")
"""What stands between the words of a reason; `@` too, so that the host of a mailbox is one."""


@dataclass(frozen=True)
class Request:
    """What somebody asks to take down.

    Attributes:
        urls: of pictures; the scheme makes no difference.
        hosts: with all their subdomains.
        images: SHA-256 of the original bytes, or image_ids.
        likes: pictures; what looks like one is taken down.
        within: bits of 256 in which the perceptual hash of a picture like it may differ; None stands
            for WITHIN.
        cosine: from which on a copy descriptor alone makes a picture like it; None compares pixels.
        hash_only: whether pictures are compared by perceptual hashes alone.
        by: who asks.
        reason: why.
    """

    urls: Sequence[str] = ()
    hosts: Sequence[str] = ()
    images: Sequence[str] = ()
    likes: Sequence[Path] = ()
    within: int | None = None
    cosine: float | None = None
    hash_only: bool = False
    by: str = ""
    reason: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it names nothing to take down."""
        return not (self.urls or self.hosts or self.images or self.likes)


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did.

    Attributes:
        tombstone: the tombstone.
        hits: what was found in the store. Runs may still write some of it in the stages at work.
        copies: what copy descriptors found of the pictures.
        reports: number of reports that were deleted.
        closed: folders by which other programs opened a table with some of it; the next run opens them.
    """

    tombstone: Tombstone
    hits: Hits
    copies: tuple[FoundCopies, ...]
    reports: int
    closed: tuple[str, ...]


def forget(store: Store, request: Request, waiting: Waiting | None = None) -> Forgotten:
    """Take rows down. From the moment at which the tombstone is written, no reader gets them.

    Raises:
        RecipeError: something that is named has no valid form, or nothing is named.
        LeaseError: gc is at work, and `waiting.wait` is False; the tombstone is in force.
    """
    check_options(request)
    takedowns = open_takedowns(store.storage)
    unsigned = _tombstone(request, takedowns)
    copies = _copies(store, request)
    tombstone = _signed(_with_copies(unsigned, copies, takedowns), takedowns)
    put_tombstone(store.storage, tombstone)
    with hold_removal(store, waiting) as lease:
        hits = search_beside_runs(store, lease)
    assert hits is not None
    reports, closed = delete_reports(store), close_folders(store)
    return Forgotten(tombstone, hits, copies, reports, closed)


def hosts_meant(store: Store, request: Request) -> Mapping[str, int]:
    """Return the hosts of the store that a request takes down, and their rows; see `rows_of_hosts`.

    Raises:
        RecipeError: something that is named has no valid form, or nothing is named.
    """
    _tombstone(request, Takedowns(bytes(KEY_BYTES)))
    return rows_of_hosts(store, _each(request.hosts, _host, "--host"))


def would_forget(store: Store, request: Request) -> dict[str, int]:
    """Return the rows that a request names, by table. Nothing is taken down and nothing is written.

    Raises:
        RecipeError: something that is named has no valid form, or nothing is named.
    """
    alone = Takedowns(bytes(KEY_BYTES))
    tombstone = _with_copies(_tombstone(request, alone), _copies(store, request), alone)
    return rows_named(store, Takedowns(alone.key, (tombstone,)))


def check_options(request: Request) -> None:
    """Check that all options have an effect, and that requester and reason are given.

    Raises:
        RecipeError: an option has no effect, or the requester or the reason is missing.
    """
    likes = bool(request.likes)
    if (request.cosine is not None) + request.hash_only > likes:
        raise RecipeError(
            "--cosine and --hash-only say how pictures are compared with one of --like",
            fix="Give --like and one of the two",
        )
    if request.within is not None and not likes:
        raise RecipeError(
            "--within says how near a hash is to that of one of --like, and has no effect without it",
            fix="Give --like, or leave --within out",
        )
    for option, text in (("--by", request.by), ("--reason", request.reason)):
        if not text.strip():
            raise RecipeError(
                f"{option} is missing or empty",
                fix="Say it in words: it stays in the record",
            )


def _copies(store: Store, request: Request) -> tuple[FoundCopies, ...]:
    """Return the stored copies of the pictures of a request, by each copy descriptor."""
    if request.hash_only or not request.likes:
        return ()
    # It imports decoders of images, which other requests do not need.
    from curation.media.pictures.apart import read_picture
    from curation.runner.takedown.copies import find_copies

    return tuple(
        copies
        for path in request.likes
        for copies in find_copies(store, read_picture(path), request.cosine)
    )


def _tombstone(request: Request, takedowns: Takedowns) -> Tombstone:
    """Return the tombstone of a request, without copies of its pictures and not signed yet."""
    named: dict[Kind, list[str]] = {
        "url": _each(request.urls, _url, "--url"),
        "host": _each(request.hosts, _host, "--host"),
        "image": _each(request.images, _image, "--sha256 or --image-id"),
    }
    within = WITHIN if request.within is None else request.within
    likes = tuple(_like(path, within) for path in request.likes)
    if request.is_empty:
        options = "--url, --host, --sha256, --image-id, --like, --list or --opt-outs"
        raise RecipeError("Nothing is named to take down", fix=f"Name it by {options}")
    hashes: dict[str, tuple[str, ...]] = {
        kind: sorted_hashes(takedowns, kind, values) for kind, values in named.items()
    }
    tombstone = Tombstone(new_name(), utc_now(), request.by, request.reason, hashes, likes)
    _check_words(tombstone, takedowns)
    return tombstone


def _with_copies(
    tombstone: Tombstone, copies: Sequence[FoundCopies], takedowns: Takedowns
) -> Tombstone:
    """Return a tombstone that names stored copies too, and by which later ones are known."""
    images = sorted_hashes(takedowns, "image", (i for each in copies for i in each.images))
    named = tuple(sorted({*tombstone.hashes["image"], *images}))
    descriptors = tuple(each.descriptor for each in copies)
    return replace(tombstone, hashes={**tombstone.hashes, "image": named}, descriptors=descriptors)


def _signed(tombstone: Tombstone, takedowns: Takedowns) -> Tombstone:
    return replace(tombstone, signature=takedowns.sign(asdict(tombstone)))


def _check_words(tombstone: Tombstone, takedowns: Takedowns) -> None:
    """Check that the reason does not keep what is taken down."""
    alone = Takedowns(takedowns.key, (tombstone,))
    text = f"{tombstone.by} {tombstone.reason}"
    # People write a host alone, also in the address of a mailbox, and URLs without a scheme.
    bare = (f"http://{word}" for word in _BETWEEN_WORDS.split(text) if "://" not in word)
    if mentions(" ".join([text, *bare]), alone):
        raise RecipeError(
            "--reason or --by holds what is to be taken down, and they stay in the store",
            fix="Describe it in other words, such as the number of the request",
        )


def _each(values: Sequence[str], read: Callable[[str], str], option: str) -> list[str]:
    wrong, good = [], []
    for value in values:
        try:
            good.append(read(value))
        except ValueError as error:
            wrong.append((value[:200], str(error)))
    if wrong:
        named = ", ".join(f"{value!r} ({why})" for value, why in wrong[:MAX_LINES_NAMED])
        more = f" and {len(wrong) - MAX_LINES_NAMED} more" if wrong[MAX_LINES_NAMED:] else ""
        fix = (
            "Nothing was taken down. Give an http or https URL, a host name or an address, 64 hex "
            "digits of a SHA-256, or 32 of an image_id"
        )
        raise RecipeError(Detail(f"{named}{more}", option, [v for v, _ in wrong], fix=fix))
    return good


def _url(text: str) -> str:
    try:
        return without_scheme(normalize(text))
    except InvalidURLError as error:
        raise ValueError(error.reason) from error


def _host(text: str) -> str:
    if "/" in text or not text.strip():
        raise ValueError("it is no host")
    if "*" in text:
        raise ValueError("a host is named without *, and stands for its subdomains too")
    host = canonical_host(text.strip().lower())
    # A list may begin with the name of its column: id, link and name are top-level domains.
    if not {".", "["}.intersection(host) and host != "localhost":
        raise ValueError("without a dot it stands for a whole top-level domain")
    return host


def _image(text: str) -> str:
    digits = text.strip().lower()
    if not _is_hex(digits) or len(digits) not in (IMAGE_ID_DIGITS, SHA256_DIGITS):
        raise ValueError("it is neither a SHA-256 nor an image_id")
    return digits[:IMAGE_ID_DIGITS]


def _like(path: Path, within: int) -> Likeness:
    from curation.media.pictures.apart import decode_apart, read_picture

    try:
        pixels = decode_apart(read_picture(path), FetchParams().max_pixels)
    except OSError as error:
        message = f"{path} cannot be read ({error})"
        fix = f"Name a picture that can. {start_of_paths()}"
        raise RecipeError(Detail(message, "--like", str(path), fix=fix)) from error
    except FetchError as error:
        raise RecipeError(
            f"--like: {path} cannot be decoded as a picture ({error.reason})",
            fix="Give a JPEG, PNG or WebP that a browser shows, or take it down by --sha256",
        ) from error
    look = likeness(pixels, within)
    if look is None:
        raise RecipeError(
            f"--like: {path} is so plain that all plain pictures would be like it",
            fix="Give a picture with some contrast, or take it down by --sha256",
        )
    return look


def read_list(path: Path, request: Request) -> Request:
    """Return a request with what a file names, one in each line: a URL, SHA-256, image_id or host.

    Raises:
        RecipeError: the file cannot be read.
    """
    try:
        with open_regular(str(path)) as stream:
            text = stream.read().decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        message = f"{path} cannot be read as UTF-8 text ({error})"
        fix = f"Name a text file with a URL, host or checksum on each line. {start_of_paths()}"
        raise RecipeError(Detail(message, "--list", str(path), fix=fix)) from error
    lines = [_COMMENT.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    named: dict[Kind, list[str]] = {"url": [], "image": [], "host": []}
    for line in lines:
        named[_kind_of(line)].append(line)
    return replace(
        request,
        urls=[*request.urls, *named["url"]],
        images=[*request.images, *named["image"]],
        hosts=[*request.hosts, *named["host"]],
    )


def _kind_of(line: str) -> Kind:
    if "://" in line:
        return "url"
    is_image = len(line) in (IMAGE_ID_DIGITS, SHA256_DIGITS) and _is_hex(line)
    return "image" if is_image else "host"


def _is_hex(text: str) -> bool:
    return set(text) <= set(hexdigits)
