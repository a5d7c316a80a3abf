"""URLs are found in texts however a text writes them."""

from __future__ import annotations

import html
import json
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.media.web.urls import InvalidURLError, normalize
from curation.runner.takedown.texts import mentions
from curation.store.tombstones import Takedowns, Tombstone, sorted_hashes
from curation.store.url_hosts import without_scheme

KEY = bytes(range(32))
HOSTS = ("a.example", "127.0.0.1:8080", "bücher.example")
PATHS = st.text("abz019/._-~%41,;:'()[]{}&=?+!*@é語😀\\", max_size=20)


def taken_down(**named: str) -> Takedowns:
    """Tombstones of one URL or host."""
    empty = Takedowns(KEY)
    hashes = {kind: sorted_hashes(empty, kind, [value]) for kind, value in named.items()}  # type: ignore[arg-type]
    return Takedowns(KEY, (Tombstone("t", "now", "who", "why", hashes),))


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda url: f"see {url} and more",
    "sentence": lambda url: f"It is at {url}.",
    "brackets": lambda url: f"({url}), [{url}], {{{url}}}; <{url}>",
    "JSON": lambda url: json.dumps({"message": f"cannot read {url}", "urls": [url]}),
    "JSON as it is": lambda url: json.dumps([url], ensure_ascii=False),
    "HTML": lambda url: f'<a href="{html.escape(url)}">{html.escape(url)}</a>',
    "Python": lambda url: repr({"url": url, "next": "x"}),
    "list": lambda url: f"https://other.example/1,{url},https://other.example/2",
    "lines": lambda url: json.dumps(f"first\n{url}\nhttps://other.example/"),
    "upper": lambda url: url.replace("http", "HTTP", 1),
}


@pytest.mark.parametrize("form", FORMS)
@given(st.sampled_from(HOSTS), PATHS)
@example("a.example", "a,b(1).jpg")
@example("a.example", "x?a=1&b=2")
@example("a.example", "é.jpg")
@example("a.example", "it's.jpg")
def test_a_url_is_found(form: str, host: str, path: str) -> None:
    url = f"https://{host}/{path}"
    try:
        named = without_scheme(normalize(url))
    except InvalidURLError:
        return
    takedowns, text = taken_down(url=named), FORMS[form](url)
    assert mentions(text, takedowns), text
    others = taken_down(url=f"{named}zz")
    assert mentions(text, others) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_host_is_found_and_no_other(form: str) -> None:
    text = FORMS[form]("https://img.a.example/1,2.jpg")
    assert mentions(text, taken_down(host="a.example"))
    assert mentions(text, taken_down(host="b.example")) == []


def test_a_url_is_found_in_a_long_list_and_before_a_url_that_it_holds() -> None:
    """Where nothing but commas parts URLs, each of them might go on to the end of the text."""
    urls = [f"https://a.example/{n},{n}.jpg" for n in range(700)]
    proxy = "https://proxy.example/?of=https://archive.example/https://b.example/1,2.jpg"
    text = ",".join([*urls[:350], proxy, *urls[350:]])
    for url in (urls[0], urls[400], urls[-1], proxy):
        assert mentions(text, taken_down(url=without_scheme(normalize(url)))) == [url]
