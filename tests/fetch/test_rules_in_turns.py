"""Rules of a site are applied a slice at a time, however they became known: all hosts share a loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from curation.media.web.opt_outs.signals import OptOut
from curation.media.web.opt_outs.site import SiteRules
from curation.stages.fetch import robots_gate, scheduler
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import fetched

MOST = 3
"""Decisions in one turn of the loop: of the gate, of the rules that wait, and of the queue."""


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many URLs were decided in each turn of the loop."""
    monkeypatch.setattr(robots_gate, "SLICE_S", 0.0)
    monkeypatch.setattr(scheduler, "SLICE_S", 0.0)
    by_turn: Counter[int] = Counter()
    opt_out, turn = SiteRules.opt_out, 0

    def tick(loop: asyncio.AbstractEventLoop) -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(tick, loop)

    def counted(rules: SiteRules, url: str) -> OptOut | None:
        if not by_turn:
            loop = asyncio.get_running_loop()
            loop.call_soon(tick, loop)
        by_turn[turn] += 1
        return opt_out(rules, url)

    monkeypatch.setattr(SiteRules, "opt_out", counted)
    return by_turn


@pytest.mark.parametrize("tdmrep", [b"", b"[]"], ids=["no tdmrep.json", "a tdmrep.json"])
@pytest.mark.parametrize("rows_in_memory", [1000, 30], ids=["all rows wait", "rules are known"])
def test_rules_are_applied_a_slice_at_a_time(
    web: Web,
    tmp_path: Path,
    decisions: Counter[int],
    monkeypatch: pytest.MonkeyPatch,
    tdmrep: bytes,
    rows_in_memory: int,
) -> None:
    monkeypatch.setattr(scheduler, "MAX_ROWS_IN_MEMORY", rows_in_memory)
    # Rules after the failure of a file of the site, and those after its answer, take different ways.
    robots = b"User-agent: *\nDisallow: /\nAllow: /.well-known/"
    web.pages[f"{HOSTS[1]}/robots.txt"] = answer(robots)
    if tdmrep:
        web.pages[f"{HOSTS[1]}/.well-known/tdmrep.json"] = answer(tdmrep)
    rows = fetched(tmp_path, [web.url(f"/{n}", HOSTS[1]) for n in range(200)])
    assert {row["reason"] for row in rows} == {"robots_disallowed"}
    assert [visit.path for visit in web.log] == ["/robots.txt", "/.well-known/tdmrep.json"]
    assert sum(decisions.values()) >= 200
    assert max(decisions.values()) <= MOST
