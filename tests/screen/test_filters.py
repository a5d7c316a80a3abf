"""Filters equal scores computed by hand; hashes are near for copies and far for other images."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.errors import ContractError, RecipeError
from curation.media.files.limits import FIELD_CHARACTERS
from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.stages.screen.filters import DEFAULT_FILTERS, FILTERS
from curation.stages.screen.filters.base import Filter, Pair
from curation.stages.screen.params import ScreenParams
from curation.stages.screen.stage import load_filter
from curation.stages.screen.words import load_words


def pair(
    grey: np.ndarray | None = None,
    width: int = 300,
    height: int = 100,
    size: int = 5000,
    caption: str | None = "a dog",
    image: np.ndarray | None = None,
) -> Pair:
    grey = np.zeros((24, 30), np.uint8) if grey is None else np.asarray(grey, np.uint8)
    if image is not None:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    stored = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) if image is None else image
    _, data = cv2.imencode(".png", stored[..., ::-1])
    return Pair(width, height, size, caption, data.tobytes(), grey)


def photo(side: int = 256, seed: int = 0) -> np.ndarray:
    """An image of coarse colours with sharp borders between them."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST)


def score(name: str, scored: Pair) -> Any:
    return load_filter(name).score(scored)


def test_a_recipe_without_filters_has_the_default_filters() -> None:
    """New filters are not default, so that stored runs stay valid."""
    assert ScreenParams().filters == list(DEFAULT_FILTERS)
    assert len(DEFAULT_FILTERS) == 15 and set(DEFAULT_FILTERS) <= set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_documented_and_gives_a_score(name: str) -> None:
    loaded = load_filter(name)
    assert loaded.doc
    assert loaded.usual
    given = score(name, pair(image=photo(250), caption="a dog on the beach"))
    assert given is not None
    assert isinstance(given, str) == (loaded.type == "string") == FILTERS[name].text
    # An image of one pixel and captions of any length give a score or None, but no error.
    for caption in (None, "", "\x00\u202e\u0007", "🙂" * 25_000, "\u05d0 " * 50_000):
        score(name, pair(np.zeros((1, 1)), caption=caption))


def test_scores_computed_by_hand() -> None:
    assert score("min_side", pair()) == 100
    assert score("aspect", pair()) == 3
    assert score("aspect", pair(width=100, height=300)) == 3
    assert score("file_size", pair()) == 5000
    assert score("caption_length", pair(caption="  a dog ")) == 5
    assert score("caption_length", pair(caption=None)) == 0
    assert score("entropy", pair()) == 0
    halves = np.repeat([[0, 255]], 8, axis=0)
    assert score("entropy", pair(halves)) == 1
    every = np.arange(256).reshape(16, 16)
    assert score("entropy", pair(every)) == pytest.approx(8)
    assert score("contrast", pair(halves)) == 127.5


def test_sharpness_decreases_with_blur_but_not_with_size() -> None:
    sharp = photo(512)
    scores = [
        score("sharpness", pair(image=cv2.GaussianBlur(sharp, (0, 0), s))) for s in (0.1, 2, 6)
    ]
    assert scores[0] > 2 * scores[1] > 4 * scores[2]
    reduced = cv2.resize(sharp, (256, 256), interpolation=cv2.INTER_AREA)
    assert score("sharpness", pair(image=reduced)) == pytest.approx(scores[0], rel=0.01)
    rows = np.tile(np.array([[0, 255]], np.uint8), (4, 8))
    assert score("sharpness", pair(rows)) == cv2.Laplacian(rows, cv2.CV_64F).var()


def test_blank_and_dark_images() -> None:
    assert score("blankness", pair(np.full((9, 9), 200))) == 1
    halves = np.repeat([[10, 240]], 8, axis=0)
    assert score("blankness", pair(halves)) == 0.5
    assert score("blankness", pair(np.arange(0, 250).reshape(10, 25))) == pytest.approx(
        5 / 250, abs=0.01
    )
    assert score("brightness", pair(halves)) == 125


def test_colourfulness_by_hand() -> None:
    assert score("colourfulness", pair(image=np.full((8, 8, 3), 90, np.uint8))) == 0
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    # No deviation; the means of red - green and (red + green) / 2 - blue are 255 and 127.5.
    assert score("colourfulness", pair(image=red)) == pytest.approx(0.3 * np.hypot(255, 127.5))
    assert score("colourfulness", pair(image=photo())) > 60


def test_blockiness_is_high_only_for_jpegs_of_low_quality() -> None:
    smooth = cv2.resize(photo(16), (256, 256), interpolation=cv2.INTER_CUBIC)
    by_quality = {}
    for quality in (5, 30, 95):
        _, data = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, quality])
        by_quality[quality] = score("blockiness", pair(image=cv2.imdecode(data, cv2.IMREAD_COLOR)))
    assert by_quality[5] > 2 > by_quality[30] > by_quality[95] > 0.9
    assert score("blockiness", pair(np.zeros((15, 100)))) is None
    assert score("blockiness", pair(np.zeros((16, 16)))) is None


@pytest.mark.parametrize(
    ("name", "caption", "expected"),
    [
        ("caption_words", " a  dog\ton the\nbeach ", 5),
        ("caption_words", None, 0),
        ("caption_letters", "ab 1-", 0.5),
        ("caption_letters", "犬の写真", 1),
        ("caption_letters", "   ", None),
        ("caption_links", "see https://a.example/b and www.c.example", 2),
        ("caption_links", "IMG_1234.JPG", 1),
        ("caption_links", "mail me@example.org.", 1),
        ("caption_links", "a dog. It runs, e.g. fast", 0),
        ("caption_boilerplate", "IMG_20190101_123456", 1),
        ("caption_boilerplate", "DSC 0042", 1),
        ("caption_boilerplate", "IMG_1234.jpg", 1),
        ("caption_boilerplate", "DSC_0012.JPG", 1),
        ("caption_boilerplate", "1234.png", 1),
        ("caption_boilerplate", "P1010023.Tiff", 1),
        ("caption_boilerplate", "dog.jpg", 0),
        ("caption_boilerplate", "IMG_1234.pdf", 0),
        ("caption_boilerplate", "IMG jpg", 0),
        ("caption_boilerplate", "Click here to enlarge", 1),
        ("caption_boilerplate", "Featured image 3", 1),
        ("caption_boilerplate", "a photo of a dog", 0),
        ("caption_boilerplate", "p", 0),
        ("caption_boilerplate", "", None),
        ("caption_language", "A photograph of two dogs that play on the beach", "en"),
        ("caption_language", "Zwei Hunde spielen am Strand in der Abendsonne", "de"),
        ("caption_language", "犬の写真です", "ja"),
        ("caption_language", "מכונית אדומה ברחוב", "he"),
        ("caption_language", "12345", None),
    ],
)
def test_scores_of_captions(name: str, caption: str | None, expected: float | str | None) -> None:
    assert score(name, pair(caption=caption)) == expected


def test_languages_of_short_captions_are_uncertain() -> None:
    sure = "caption_language_sure"
    long = "A photograph of two dogs that play on the beach"
    assert score(sure, pair(caption=long)) > 0.9 > score(sure, pair(caption="Ok"))


@pytest.mark.parametrize("marks", ["\u0301" * 60_000 + "\u0316" * 60_000, "\u0f73" * 120_000])
def test_a_caption_of_marks_takes_no_time(tmp_path: Path, marks: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text("darn\n$h!t\n", encoding="utf-8")
    words, started = load_words(str(path)), time.process_time()
    assert words.score(pair(caption=f"darn {marks} $H!T")) == 2
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("# x\n" * 5_000_000, "has more than 16 MiB"),
        ("# " + "x" * 999 + "\nfine\n" + "a!" * 101, "line 3 has 202 characters, more than 200"),
        ("fine\n" + "a word " * 40, "line 2 has 280 characters"),
    ],
    ids=["large", "long", "words"],
)
def test_a_list_of_words_is_bounded(tmp_path: Path, content: str, problem: str) -> None:
    """A caption is looked through once for each length: 3,000 of them took seconds a caption."""
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(RecipeError, match=problem):
        load_words(str(path))


def test_words_of_a_list_are_counted_whatever_their_case(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# a comment\nDARN\nso and so\nStraße\n\n", encoding="utf-8")
    words = load_words(str(path))
    for caption, count in [
        ("Darn! A so-and-so, DARN.", 3),
        ("darning", 0),
        ("STRASSE", 1),
        (None, 0),
    ]:
        assert words.score(pair(caption=caption)) == count
    path.write_bytes(b"\xff\xfe\x00")
    load_words.cache_clear()
    with pytest.raises(RecipeError, match=r"words\.txt' cannot be read as UTF-8"):
        load_words(str(path))
    path.write_text("# nothing\n")
    with pytest.raises(RecipeError, match="has no words"):
        load_words(str(path))


LISTED = [
    # As in published lists: signs for letters, an emoji, scripts without spaces.
    ("a$$", "a dog", 0),
    ("a$$", "kick A$$ now", 1),
    ("a$$", "data$$", 0),
    ("$h!t", "oh $H!T", 1),
    ("b!tch", "b tch", 0),
    ("c++", "vitamin C, in C++", 1),
    ("\U0001f595", "so \U0001f595\U0001f595", 2),
    ("\u2764\ufe0f", "\u2764 it", 1),
    ("色情", "免费色情图片", 1),
    ("すけべ", "このすけべな人", 1),
    ("เย็ด", "อย่าเย็ดนะ", 1),
    ("रंडी", "एक रंडी है", 1),
    ("रंडी", "करंडी", 0),
    ("café", "cafe\u0301 noir", 1),
    ("ＤＡＲＮ", "darn", 1),
    ("so so", "SO - so, so", 2),
    ("s.o.b.", "an S.O.B. here", 1),
    ("word", "\ufeffword", 1),
]


@pytest.mark.parametrize(("entry", "caption", "count"), LISTED)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_entry_of_a_list_has_an_effect(
    tmp_path: Path, entry: str, caption: str, count: int, mark: str
) -> None:
    path = tmp_path / "words.txt"
    path.write_text(f"{mark}# words\r\n{entry}\r\n\r\n", encoding="utf-8")
    found = load_words(str(path))
    assert found.score(pair(caption=caption)) == count
    assert found.score(pair(caption=entry)) == 1
    assert found.score(pair(caption="words")) == 0


@given(st.text(min_size=1, max_size=12), st.text(max_size=12))
def test_an_entry_is_found_alone_in_a_caption_or_the_list_is_refused(
    entry: str, around: str
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "words.txt")
        path.write_text(f"other\n{entry}\n", encoding="utf-8", newline="")
        try:
            found = load_words(str(path))
        except RecipeError as error:
            assert re.search(r"line \d+, .* has no word", str(error))
            return
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            if line.split() and not line.lstrip().startswith("#"):
                assert found.score(pair(caption=f"{around} {line} {around}")) not in (0, None)


def picture(seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC)


def hashed(image: Image.Image, quality: int = 95) -> bytes | None:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    grey = decode_grey(stream.getvalue())
    assert grey is not None
    return perceptual_hash(grey)


def distance(a: bytes, b: bytes | None) -> int:
    assert b is not None
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_hashes_change_with_the_image_but_little_with_encoding_and_scale() -> None:
    first = hashed(picture())
    assert first is not None
    assert len(first) == 32
    assert distance(first, hashed(picture(), quality=40)) <= 31
    assert distance(first, hashed(picture().resize((120, 90)))) <= 31
    assert distance(first, hashed(picture(1))) > 80


def test_flat_images_have_no_hash() -> None:
    assert hashed(Image.new("L", (100, 100), 90)) is None
    assert decode_grey(b"not a picture") is None


PARTS = st.text(max_size=20) | st.sampled_from(
    ["_", " ", "1 ", "www.", "a@", "img_", "it's", "so and so", "e\u0301", "\u200d", "\x00", "犬"]
)
CAPTIONS = st.lists(st.tuples(PARTS, st.sampled_from([1, 2, 99])), max_size=6).map(
    lambda parts: "".join(part * times for part, times in parts)
)


@pytest.mark.parametrize("examples", [100, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_any_caption_has_a_score_of_every_filter(tmp_path: Path, examples: int) -> None:
    words = tmp_path / "words.txt"
    words.write_text("so and so\n犬\nsh!t\n", encoding="utf-8")
    filters = {n: load_filter(n) for n in FILTERS if FILTERS[n].caption}
    filters["words"] = load_words(str(words))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CAPTIONS | st.none())
    def check(caption: str | None) -> None:
        begun = time.process_time()
        scored = pair(caption=caption)
        scores = {name: each.value(name, scored) for name, each in filters.items()}
        again = pair(caption=caption)
        assert scores == {name: each.value(name, again) for name, each in filters.items()}
        for name, value in scores.items():
            most = len(caption or "") if filters[name].type == "int32" else 1
            assert value is None or isinstance(value, str) or 0 <= value <= most
        assert time.process_time() - begun < 2

    check()


@pytest.mark.parametrize("part", ["_", " ", "1 ", "a.", "www.", "a@", "img_", "it's", "\u00e9"])
@pytest.mark.parametrize("name", [name for name in FILTERS if FILTERS[name].caption])
def test_no_caption_takes_long(name: str, part: str) -> None:
    """A caption may be as long as a field; the last character spoils what a pattern has matched."""
    scored = pair(caption=part * (FIELD_CHARACTERS // len(part) - 1) + "!")
    score(name, pair())
    begun = time.process_time()
    score(name, scored)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("kind", "scored", "value"),
    [
        ("float", np.float32(0.5), 0.5),
        ("float", 2**25 + 1, float(2**25 + 1)),
        ("float", None, None),
        ("float", float("nan"), None),
        ("int32", np.int64(7), 7),
        ("int32", 0.7, ContractError),
        ("int32", 2**31, ContractError),
        ("float", "0.5", ContractError),
        ("string", b"en", ContractError),
        ("string", "en", "en"),
    ],
)
def test_a_score_has_the_type_that_its_filter_declares(kind: Any, scored: Any, value: Any) -> None:
    """Arrow alone makes 0 of 0.7, and refuses whole numbers above 2**24 in a column of floats."""
    own = Filter("a score", "unit", kind, "none", lambda _: scored)
    if value is ContractError:
        with pytest.raises(ContractError, match=f"'mine' scored .* no {kind}"):
            own.value("mine", pair())
    else:
        assert own.value("mine", pair()) == value
