"""Decides what a first recipe says, from what the files hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import combining, normalize

from curation.errors import Detail, RecipeError
from curation.inspect.check.survey import Survey, survey
from curation.inspect.check.trial import Trial, try_pictures
from curation.inspect.weights import is_in_hub_cache
from curation.media.web.params import OutboundParams
from curation.recipe import Recipe, parse_recipe
from curation.stages.ingest.recognise import recognise
from curation.stages.ingest.recognise.place import place_of
from curation.stages.ingest.sources.overlap import overlap
from curation.stages.ingest.sources.source import Role
from curation.stages.select.params import Threshold

BETTER = "timm/vit_small_patch14_dinov2.lvd142m"
"""The encoder that a first recipe names where its weights are on the machine."""
FIRST = "vit_micro"
"""The encoder that it names otherwise; it comes with the package."""
CANDIDATES: Mapping[str, Threshold] = {
    "min_side": Threshold(at_least=64),
    "aspect": Threshold(at_most=4),
    "entropy": Threshold(at_least=2),
    "caption_length": Threshold(at_least=5),
}
"""Thresholds that suit most pools. One that drops nothing of a sample, or much, is a comment."""
MOST_DROPPED = 0.25
SMALLEST_K = 4
LARGEST_K = 32


@dataclass(frozen=True)
class Draft:
    """What a first recipe says.

    Attributes:
        name: of the recipe.
        surveys: of its sources.
        notes: what formats noted, by name of the source.
        trial: what a sample of local pictures shows.
        contact: of `fetch`; empty where nothing is requested.
    """

    name: str
    surveys: Sequence[Survey]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    trial: Trial = field(default_factory=Trial)
    contact: str = ""

    def of_role(self, role: Role) -> list[Survey]:
        """Return the surveys of the sources of a role."""
        return [survey for survey in self.surveys if survey.source.role == role]

    @property
    def pool_rows(self) -> int:
        """Rows of the pool, about."""
        return sum(survey.rows for survey in self.of_role("pool"))

    @property
    def has_captions(self) -> bool:
        """Whether some row of the pool has a caption."""
        return any(survey.count("caption") for survey in self.of_role("pool"))

    @property
    def has_remote_images(self) -> bool:
        """Whether hosts are requested."""
        return any(survey.remote_images for survey in self.surveys)

    @property
    def encoder(self) -> str:
        """The semantic encoder: a pretrained one if its weights are here."""
        return BETTER if is_in_hub_cache(BETTER) else FIRST

    @property
    def store(self) -> str:
        """A place for the store: the nearest folder above that no source would read."""
        above = ("../" * levels for levels in range(len(Path.cwd().parts)))
        stores = [f"{folder}{self.name}-store" for folder in above]
        sources = [survey.source for survey in self.surveys]
        return next((s for s in stores if not any(overlap(o, s) for o in sources)), stores[0])

    @property
    def clusters(self) -> int:
        """A number of clusters: the square root of the pool, with at least 40 rows for each."""
        return max(1, min(math.isqrt(self.pool_rows), self.pool_rows // 40))

    def k(self, seeds: Survey) -> int:
        """Return a number of neighbours of each seed image: together a tenth of the pool, about.

        Of a small pool more, but at most half: a seed that is in the pool is its own nearest neighbour.
        """
        count = max(1, seeds.rows)
        wanted = min(LARGEST_K, self.pool_rows // (10 * count), self.pool_rows // 100)
        return max(1, wanted, min(SMALLEST_K, self.pool_rows // (2 * count)))


def draft(
    paths: Sequence[str],
    seeds: Sequence[str] = (),
    held_out: Sequence[str] = (),
    name: str | None = None,
    contact: str | None = None,
) -> Draft:
    """Look at files, and decide what a recipe for them says.

    Args:
        paths: of the pool.
        seeds: of curated sets.
        held_out: of evaluation sets.
        name: of the recipe; by default it follows from the first path.
        contact: e-mail address or web page of the user, for hosts.

    Raises:
        RecipeError: nothing is at a path, no format recognises it, or hosts would be requested and
            there is no contact.
    """
    try:
        outbound = OutboundParams(contact=contact)
    except ValueError as error:
        message = "it must be an e-mail address or a web page, in ASCII without control characters"
        raise RecipeError(Detail(message, "--contact", contact)) from error
    surveys: list[Survey] = []
    notes: dict[str, Sequence[str]] = {}
    roles: dict[Role, Sequence[str]] = {"pool": paths, "seed": seeds, "held_out": held_out}
    for role, of_role in roles.items():
        for path in of_role:
            place = place_of(path, outbound)
            recognised = recognise(place)
            unique = unique_name(name_of(path), [survey.source.name for survey in surveys])
            source = place.source(role, unique, **recognised.fields)
            surveys.append(survey(source, outbound))
            notes[unique] = recognised.notes
    named = Draft(name or name_of(paths[0]), surveys, notes, contact=contact or "")
    if named.has_remote_images and not contact:
        message = "The pictures are on hosts of the web, which must be able to reach you"
        fix = "It is an e-mail address or a web page of yours, which hosts see with every request"
        raise RecipeError(Detail(message, fix=f"Add --contact. {fix}"))
    return Draft(named.name, surveys, notes, _trial(named), named.contact)


def _trial(named: Draft) -> Trial:
    """Measure a sample of local pictures with the default filters."""
    return try_pictures(_plain_recipe(named), named.surveys)


def _plain_recipe(named: Draft) -> Recipe:
    sources = [survey.source.model_dump(exclude_defaults=True) for survey in named.surveys]
    return parse_recipe({"name": named.name, "sources": sources})


def name_of(path: str) -> str:
    """Return a name of a source that follows from its path."""
    plain = path.partition("?")[0].rstrip("/") if "://" in path else str(Path(path).absolute())
    last = next((p for p in reversed(plain.split("/")) if p and not set(p) & set("*?[")), "data")
    stem = last.partition(".")[0] or last
    # Letters lose their accents: ü becomes u, and ß becomes ss.
    plain = "".join(c for c in normalize("NFKD", stem.casefold()) if not combining(c))
    return re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[:40] or "data"


def unique_name(name: str, taken: Sequence[str]) -> str:
    """Return a name, or with a number the first one like it, that is not taken."""
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(n for n in numbered if n not in taken)
