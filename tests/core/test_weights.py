"""The table of models, and which of them runs."""

from hashlib import sha256
from pathlib import Path

import pytest

from core import WEIGHTS, find_weights, resolve_model
from core.errors import UnknownModelError, WeightsNotInstalledError
from core.weights import BEST_FIRST

OF_THE_CONTRACT = {
    "u2net": (320, "General use"),
    "u2net_human_seg": (320, "Human portraits"),
    "u2netp": (320, "Fast processing"),
    "u2net_cloth_seg": (768, "Clothing items"),
    "silueta": (320, "Portraits"),
    "isnet-general-use": (1024, "Highest quality"),
}


def test_the_six_models_of_the_contract_are_in_the_table() -> None:
    for name, (input_px, good_for) in OF_THE_CONTRACT.items():
        assert (WEIGHTS[name].input_px, WEIGHTS[name].good_for) == (input_px, good_for)


def test_every_row_is_complete() -> None:
    for name, weights in WEIGHTS.items():
        assert weights.name == name
        assert weights.licence
        assert weights.size_bytes > 1_000_000
        assert all(len(checksum) == 64 for checksum in weights.checksums)
    assert set(BEST_FIRST) <= set(WEIGHTS)


def test_the_embedded_weights_are_the_tables() -> None:
    contents = find_weights("cutout-lite", None).read_bytes()
    assert sha256(contents).hexdigest() in WEIGHTS["cutout-lite"].checksums
    assert len(contents) == WEIGHTS["cutout-lite"].size_bytes


def test_the_weights_beside_the_checkout_are_accepted(shared_dir: Path) -> None:
    contents = find_weights("u2netp", shared_dir / "models").read_bytes()
    assert sha256(contents).hexdigest() in WEIGHTS["u2netp"].checksums


@pytest.mark.parametrize("place", ["", "models/u2net"])
def test_both_folder_layouts_of_rembg_are_found(place: str, tmp_path: Path) -> None:
    path = tmp_path / place / "u2net.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    assert find_weights("u2net", tmp_path) == path


def test_no_folder_is_no_weights() -> None:
    with pytest.raises(WeightsNotInstalledError):
        find_weights("u2net", None)


def test_a_name_is_not_a_path(tmp_path: Path) -> None:
    (tmp_path / "stranger.onnx").write_bytes(b"")
    for name in ("stranger", "../stranger", "bria-rmbg", ""):
        with pytest.raises(UnknownModelError):
            find_weights(name, tmp_path)


def test_auto_is_the_best_that_is_installed(tmp_path: Path) -> None:
    def auto() -> tuple[str, str | None]:
        return resolve_model("auto", tmp_path, is_substitution_allowed=False)

    assert auto() == ("cutout-lite", None)
    (tmp_path / "u2netp.onnx").touch()
    assert auto() == ("u2netp", None)
    (tmp_path / "isnet-general-use.onnx").touch()
    (tmp_path / "u2net_human_seg.onnx").touch()
    assert auto() == ("isnet-general-use", None)


def test_a_stand_in_runs_only_where_it_is_allowed_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotInstalledError):
        resolve_model("u2net", tmp_path, is_substitution_allowed=False)
    name, warning = resolve_model("u2net", tmp_path, is_substitution_allowed=True)
    assert name == "cutout-lite"
    assert warning is not None
    assert "cutout models pull u2net" in warning


def test_installed_weights_run_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "u2net.onnx").touch()
    assert resolve_model("u2net", tmp_path, is_substitution_allowed=True) == ("u2net", None)


def test_an_unknown_model_has_no_stand_in(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        resolve_model("u3net", tmp_path, is_substitution_allowed=True)
