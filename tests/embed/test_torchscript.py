"""Vectors of TorchScript archives equal those of the module, and only trusted files are loaded."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import transforms

from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.cost.encoder_profiles import profile_encoders
from curation.media.encoders import torchscript
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec
from curation.recipe import Recipe, parse_recipe
from curation.runner.preflight import check_inputs

from ..test_flow import SPEC
from .pictures import pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, DIM = 48, 16


class Small(torch.nn.Module):
    """A convolution, batch norm, pooling and a linear layer: from images to (n, DIM)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 5, stride=3), torch.nn.BatchNorm2d(8), torch.nn.GELU()
        )
        self.head = torch.nn.Linear(8, DIM)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.maps(pixels)
        features: torch.Tensor = self.head(maps.clamp(min=1e-6).pow(3.0).mean((2, 3)).pow(1 / 3))
        return features


class Shaped(torch.nn.Module):
    """Returns features of a wrong shape or type."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.kind == "maps":
            return pixels
        if self.kind == "flat":
            return pixels.flatten()
        if self.kind == "whole":
            return torch.ones(pixels.shape[0], 4, dtype=torch.int64)
        return pixels.reshape(1, -1)


class Several(torch.nn.Module):
    """Returns two tensors."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels, pixels


def saved(module: torch.nn.Module, path: Path, how: str = "script") -> dict[str, str]:
    """Save a module as an archive; return its path and SHA-256 as in a recipe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if how == "trace":
            trace: Any = torch.jit.trace  # it has no annotations
            script = trace(module, torch.zeros(1, 3, SIDE, SIDE))
        else:
            script = torch.jit.script(module)
        if how == "freeze":
            script = torch.jit.freeze(script)
        torch.jit.save(script, path)
    return {"weights": str(path), "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec(**fields: Any) -> EncoderSpec:
    defaults: dict[str, Any] = {"model": "torchscript", "input_size": SIDE}
    return EncoderSpec(**(defaults | fields))


def recipe_with(**encoder: Any) -> Recipe:
    encoders = {"copy": {"model": "torchscript"} | encoder}
    return parse_recipe(SPEC | {"embed": {"encoders": encoders}, "dedup": {"near": None}})


@pytest.fixture(scope="module")
def model() -> Small:
    torch.manual_seed(0)
    small = Small()
    small.maps(torch.randn(8, 3, SIDE, SIDE))
    return small.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def archive(model: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return saved(model, tmp_path_factory.mktemp("archives") / "small.torchscript.pt")


@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
@pytest.mark.parametrize("crop", ["squash", "center"])
def test_vectors_equal_those_of_the_module(
    model: Small, tmp_path: Path, how: str, crop: str
) -> None:
    """The reference is the preprocessing of SSCD's release, by torchvision."""
    sides = [SIDE, SIDE] if crop == "squash" else SIDE
    reference = transforms.Compose(
        [
            transforms.Resize(sides),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    given = saved(model, tmp_path / "m.pt", how)
    encoder = load_encoder(spec(**given, crop_mode=crop), "cpu")
    images = pictures(9)
    vectors, valid = encode(encoder, list(images), 4, "cpu")
    expected = torch.nn.functional.normalize(model(torch.stack([reference(i) for i in images])))
    assert valid.all()
    assert (encoder.dim, tuple(encoder.blank.shape)) == (DIM, (3, SIDE, SIDE))
    np.testing.assert_allclose(vectors.astype(np.float64), expected.numpy(), atol=1e-3)
    resized = transforms.Compose([*reference.transforms[:2], transforms.PILToTensor()])
    difference = (encoder.preprocess(images[0]).int() - resized(images[0]).int()).abs()
    assert difference.max() <= 2 and (difference > 0).float().mean() < 0.05
    assert encoder.identity["weights_sha256"] == given["sha256"]
    assert encoder.identity["preprocessing"] == {
        "input_size": [3, SIDE, SIDE],
        "mean": list(MEAN),
        "std": list(STD),
        "crop_pct": 1.0,
        "crop_mode": crop,
        "interpolation": "bilinear",
    }


def test_the_first_forward_passes_give_the_bits_of_later_ones(archive: dict[str, str]) -> None:
    """By default torch compiles a script again after a few forward passes."""
    load_encoder.cache_clear()
    encoder = load_encoder(spec(**archive), "cpu")
    images = pictures(6)
    passes = [encode(encoder, list(images), 2, "cpu")[0].tobytes() for _ in range(6)]
    assert len(set(passes)) == 1


def test_loading_gives_no_warnings(
    archive: dict[str, str], recwarn: pytest.WarningsRecorder
) -> None:
    load_encoder.cache_clear()
    load_encoder(spec(**archive), "cpu")
    assert not recwarn.list


def test_a_sha256_has_64_hexadecimal_digits_in_any_case(archive: dict[str, str]) -> None:
    upper = spec(**archive | {"sha256": archive["sha256"].upper()})
    assert upper.sha256 == archive["sha256"]
    for wrong in ("abc", "g" * 64, archive["sha256"] + "0", " " + archive["sha256"][1:]):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            spec(**archive | {"sha256": wrong})
    with pytest.raises(ValueError, match="set `weights` to the file"):
        EncoderSpec(model="timm/test_vit", sha256="0" * 64)


def test_an_error_names_the_missing_field(archive: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"encoders\.copy: torchscript needs `input_size`"):
        recipe_with(**archive)
    with pytest.raises(RecipeError, match="torchscript needs `weights`"):
        recipe_with(input_size=SIDE)


def test_a_file_with_another_sha256_is_not_parsed(
    archive: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*arguments: object, **options: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(torch.jit, "load", parse)
    monkeypatch.setattr(torchscript, "_is_archive", parse)
    wrong = "0" * 64
    message = f"{archive['weights']}.*expected sha256 {wrong}, found {archive['sha256']}"
    with pytest.raises(RecipeError, match=message):
        load_encoder(spec(**archive | {"sha256": wrong}), "cpu")
    with pytest.raises(RecipeError, match=message):
        torchscript.skeleton("", spec(**archive | {"sha256": wrong}))


def test_without_a_sha256_the_error_gives_that_of_the_file(archive: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=f"no sha256.*add sha256: {archive['sha256']}"):
        load_encoder(spec(weights=archive["weights"]), "cpu")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_sha256_of_local_weights_of_timm_is_checked(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    model, path = timm.create_model("test_vit"), tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    right, wrong = sha256_of(path), "1" * 64

    def loaded(**more: Any) -> Encoder:
        return load_encoder(EncoderSpec(model="timm/test_vit", weights=str(path), **more), "cpu")

    assert loaded(sha256=right.upper()).identity == loaded().identity
    assert loaded().identity["weights_sha256"] == right
    message = f"{re.escape(str(path))}.*expected sha256 {wrong}, found {right}"
    with pytest.raises(RecipeError, match=message):
        loaded(sha256=wrong)
    path.write_bytes(b"no weights at all")
    with pytest.raises(RecipeError, match="expected sha256"):
        loaded(sha256=wrong)


def test_files_that_are_no_archive_raise_an_error(model: Small, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("state.pt", "old.pt", "text.pt", "zip.pt")}
    torch.save(model.state_dict(), files["state.pt"])
    torch.save(model.state_dict(), files["old.pt"], _use_new_zipfile_serialization=False)
    files["text.pt"].write_bytes(b"<html>not found</html>")
    files["zip.pt"].write_bytes(b"PK\x05\x06" + bytes(18))
    for path in files.values():
        with pytest.raises(
            RecipeError, match=f"{path.name}.*not a TorchScript archive, but a pickle"
        ):
            load_encoder(spec(weights=str(path), sha256=sha256_of(path)), "cpu")
    with pytest.raises(RecipeError, match=r"No weights file 'no/such\.pt'"):
        load_encoder(spec(weights="no/such.pt", sha256="0" * 64), "cpu")


def test_a_damaged_archive_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for place in ("version", "data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"damaged/{place}", "3\n")
    with pytest.raises(RecipeError, match=r"cannot load the TorchScript archive .*damaged\.pt"):
        load_encoder(spec(weights=str(path), sha256=sha256_of(path)), "cpu")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Shaped("maps"), r"float32 of shape \(2, 3, 48, 48\)"),
        (Shaped("flat"), r"float32 of shape \(13824,\)"),
        (Shaped("whole"), r"int64 of shape \(2, 4\)"),
        (Shaped("one row"), r"float32 of shape \(1, 13824\)"),
        (Several(), "a tuple"),
        (torch.nn.Linear(7, 4), "input_size"),
    ],
)
def test_features_of_another_shape_raise_an_error(
    module: torch.nn.Module, message: str, tmp_path: Path
) -> None:
    given = saved(module, tmp_path / "odd.pt")
    with pytest.raises(RecipeError, match=f"(?s)odd.pt.*{message}"):
        load_encoder(spec(**given), "cpu")


@pytest.mark.parametrize("how", ["script", "trace", "freeze"])
def test_the_operations_of_an_archive_are_counted_for_the_plan(
    model: Small, tmp_path: Path, how: str
) -> None:
    recipe = recipe_with(**saved(model, tmp_path / "m.pt", how), input_size=SIDE)
    side = (SIDE - 5) // 3 + 1
    assert profile_encoders(recipe)["copy"].dim == DIM
    assert profile_encoders(recipe)["copy"].flop == 2 * (side**2 * 8 * 3 * 25 + 8 * DIM)


def test_sha256_is_checked_before_any_work_and_is_in_no_fingerprint(
    archive: dict[str, str],
) -> None:
    def recipe(**more: Any) -> Recipe:
        return recipe_with(**archive | {"input_size": SIDE} | more)

    with pytest.raises(RecipeError, match=r"embed.encoders.copy: .*expected sha256 0{64}"):
        check_inputs(recipe(sha256="0" * 64))
    with pytest.raises(RecipeError, match=r"embed.encoders.copy: .*add sha256"):
        check_inputs(recipe(sha256=None))
    fingerprints = [[s.fingerprint for s in plan(r)] for r in (recipe(), recipe(sha256=None))]
    assert fingerprints[0] == fingerprints[1]


def test_another_crop_mode_changes_the_identity(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)

    def loaded(**more: Any) -> Encoder:
        return load_encoder(EncoderSpec(model="timm/test_vit", weights=str(path), **more), "cpu")

    plain, squashed = loaded(), loaded(crop_mode="squash")
    assert plain.identity["preprocessing"]["crop_mode"] == "center"
    assert squashed.identity["preprocessing"]["crop_mode"] == "squash"
    assert loaded(crop_mode="center").identity == plain.identity
    image = next(i for i in pictures(5) if i.width > 1.5 * i.height)
    assert not torch.allclose(plain.preprocess(image), squashed.preprocess(image))
    identity = load_encoder(EncoderSpec(model="vit_micro"), "cpu").identity
    assert identity["preprocessing"]["crop_mode"] == "center"
