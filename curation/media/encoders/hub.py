"""The model hub: used while it answers, and its cache alone otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import RecipeError

EXECUTION_ONLY = True
"""Nothing here decides a row: weights count by their content."""

TIMEOUT_S = 10.0
"""Seconds within which the hub must answer."""


class HubError(ConnectionError):
    """The hub cannot be reached, and its cache does not hold what is needed."""


@contextmanager
def without_hub() -> Iterator[None]:
    """Let nothing be downloaded meanwhile, whatever a configuration names."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Let files come from the hub meanwhile, or from its cache alone if the hub cannot be reached.

    A model has several files, and the client of the hub asks six times for each: without this, it takes
    over a minute to say that there is no network.

    Raises:
        HubError: in place of any other error but RecipeError, if the hub cannot be reached.
    """
    problem = _why_unreachable()
    if problem is None:
        yield
        return
    try:
        with without_hub():
            yield
    except RecipeError:
        raise
    except Exception as error:
        raise HubError(problem) from error


def _why_unreachable() -> str | None:
    from huggingface_hub import constants, get_session

    address = constants.ENDPOINT
    try:
        status = get_session().head(address, timeout=TIMEOUT_S).status_code
    except Exception as error:
        # The versions of the client raise errors of different libraries.
        return f"{address} cannot be reached: {type(error).__name__}: {error}"
    return f"{address} answers with HTTP {status}" if status >= 500 else None
