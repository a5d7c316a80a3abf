"""Which signals a recipe follows, and for which crawlers."""

from __future__ import annotations

from typing import NamedTuple

from curation.media.web.opt_outs.robots_txt import product_of
from curation.media.web.params import OutboundParams


class OptOutPolicy(NamedTuple):
    """Which signals count.

    Attributes:
        product: product token of the crawler, in lower case.
        others: those of other crawlers whose rules count too.
        robots: whether robots.txt is read.
        signals: names of signals.
        directives: of X-Robots-Tag that forbid the use of an image.
    """

    product: str
    others: tuple[str, ...]
    robots: bool
    signals: frozenset[str]
    directives: frozenset[str]

    @property
    def products(self) -> tuple[str, ...]:
        """Product tokens of all crawlers whose rules count."""
        return (self.product, *self.others)

    @property
    def key(self) -> str:
        """A text that differs if a host's rules may."""
        return " ".join([*self.products, str(self.robots), *sorted(self.signals)])


def opt_out_policy(params: OutboundParams) -> OptOutPolicy:
    """Return the policy of a recipe."""
    return OptOutPolicy(
        product_of(params.user_agent),
        tuple(name.lower() for name in params.robots_agents),
        params.robots,
        frozenset(params.opt_out_signals),
        frozenset(params.opt_out),
    )
