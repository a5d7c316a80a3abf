"""The photographs of the mini-web; each is part of an installed library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Photograph:
    """One source photograph.

    Attributes:
        name: its name.
        title: description for captions.
        word: one word for captions.
        theme: its group; the textures form a seed set.
        package: the installed library that contains it.
        file: its path within the library.
    """

    name: str
    title: str
    word: str
    theme: str
    package: str
    file: str


SKIMAGE, SKLEARN, PYWT = "skimage.data", "sklearn.datasets", "pywt.data"

PHOTOGRAPHS = (
    Photograph(
        "astronaut",
        "astronaut Eileen Collins in an orange suit",
        "astronaut",
        "people",
        SKIMAGE,
        "astronaut.png",
    ),
    Photograph(
        "cameraman",
        "a cameraman with a tripod on the lawn",
        "cameraman",
        "people",
        SKIMAGE,
        "camera.png",
    ),
    Photograph("brick", "a wall of long bricks", "bricks", "textures", SKIMAGE, "brick.png"),
    Photograph("grass", "dry grass seen from above", "grass", "textures", SKIMAGE, "grass.png"),
    Photograph("gravel", "gravel on the ground", "gravel", "textures", SKIMAGE, "gravel.png"),
    Photograph("coins", "Greek coins from Pompeii", "coins", "things", SKIMAGE, "coins.png"),
    Photograph("cat", "Chelsea the cat", "cat", "animals", SKIMAGE, "chelsea.png"),
    Photograph(
        "coffee", "a cup of coffee on a wooden table", "coffee", "things", SKIMAGE, "coffee.png"
    ),
    Photograph(
        "motorcycle",
        "a red motorcycle in a garage",
        "motorcycle",
        "things",
        SKIMAGE,
        "motorcycle_left.png",
    ),
    Photograph(
        "flower", "a dahlia flower in the garden", "flower", "plants", SKLEARN, "images/flower.jpg"
    ),
    Photograph(
        "pagoda",
        "the Summer Palace pagoda in Beijing, China",
        "pagoda",
        "places",
        SKLEARN,
        "images/china.jpg",
    ),
    Photograph(
        "stairs", "an iron staircase, accent to the top", "stairs", "places", PYWT, "ascent.npz"
    ),
    Photograph(
        "fields", "an aerial photograph of fields and a wood", "fields", "places", PYWT, "aero.npz"
    ),
    Photograph(
        "rocket",
        "a Falcon 9 rocket on its launch pad at dusk",
        "rocket",
        "places",
        SKIMAGE,
        "rocket.jpg",
    ),
    Photograph(
        "galaxies",
        "the Hubble eXtreme Deep Field, galaxies in a dark sky",
        "galaxies",
        "sky",
        SKIMAGE,
        "hubble_deep_field.jpg",
    ),
    Photograph("moon", "craters on the surface of the Moon", "moon", "sky", SKIMAGE, "moon.png"),
    Photograph(
        "tissue",
        "stained colon tissue under the microscope",
        "tissue",
        "medicine",
        SKIMAGE,
        "ihc.png",
    ),
    Photograph(
        "retina", "the retina of a healthy eye", "retina", "medicine", SKIMAGE, "retina.jpg"
    ),
    Photograph("page", "a scanned page of a textbook", "page", "writing", SKIMAGE, "page.png"),
    Photograph(
        "formulas",
        "handwritten formulas on squared paper",
        "formulas",
        "writing",
        SKIMAGE,
        "text.png",
    ),
)


def load(photograph: Photograph) -> Image.Image:
    """Return a photograph in RGB.

    Raises:
        FileNotFoundError: the installed version of the library does not contain the file.
    """
    source = resources.files(photograph.package).joinpath(photograph.file)
    if not source.is_file():
        raise FileNotFoundError(
            f"photograph {photograph.name!r}: the installed {photograph.package} has no "
            f"{photograph.file}; install the versions of constraints.txt"
        )
    with source.open("rb") as stream:
        if photograph.file.endswith(".npz"):
            return Image.fromarray(np.load(stream)["data"]).convert("RGB")
        return Image.open(stream).convert("RGB")
