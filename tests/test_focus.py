"""What is cut out of a radiograph before it is scored, and where its heatmap then lies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from core import focus
from core.batch.inputs import Folder
from core.batch.scoring import Nothing, Scorer
from core.cascade import Cascade
from core.errors import WeightsInvalid
from core.explain import on_picture
from core.manifest import ARCHITECTURE, FOCUSED, Release
from core.pipeline import diagnose
from core.settings import ROOT, ImageLimits
from core.store.records import pack, unpack
from core.transforms import Preprocessing, framed, to_canvas
from core.types import WHOLE, Crop, Heatmap, Radiograph
from pages import _reading
from tests.simulated import encoded, phantom


def limb(height: int = 600, width: int = 800, noise: float = 2.0, **marks: bool) -> np.ndarray:
    """HxW uint8: a striped limb from row 150 to 450 and column 300 to 500 on an empty detector."""
    grey = np.full((height, width), 20, np.float32)
    grey[150:450, 300:500] = 90
    grey[150:450, 330:350] = grey[150:450, 450:470] = 140
    if marks.get("dark"):
        grey = 20 + (grey - 20) * 0.12
    if marks.get("marker"):
        letter = np.zeros((height, width), np.uint8)
        cv2.putText(letter, "L", (520, 300), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 6)
        grey[letter > 0] = 255
    if marks.get("plate"):
        grey[-9:] = 255
    grey += np.random.default_rng(0).normal(0, noise, grey.shape)
    return grey.clip(0, 255).astype(np.uint8)


def contains(crop: Crop, top: float, left: float, bottom: float, right: float) -> bool:
    return crop.top <= top and crop.left <= left and crop.bottom >= bottom and crop.right >= right


@pytest.mark.parametrize("marks", [{}, {"marker": True}, {"plate": True}])
def test_a_small_limb_is_cut_out_whole(marks):
    grey = limb(**marks)
    crop = focus.crop(grey)
    assert contains(crop, 0.25, 0.375, 0.75, 0.625)
    assert crop.bottom - crop.top < 0.75
    assert crop.right - crop.left < 0.6


def test_a_bright_marker_does_not_outshine_a_dark_limb():
    crop = focus.crop(limb(noise=0.3, dark=True, marker=True))
    assert contains(crop, 0.25, 0.375, 0.75, 0.625)


@pytest.mark.parametrize(
    "grey",
    [
        np.zeros((400, 300), np.uint8),
        np.full((400, 300), 200, np.uint16),
        phantom(10, 300),
        np.random.default_rng(0).integers(0, 255, (400, 300)).astype(np.uint8),
    ],
    ids=["black", "flat", "thin", "noise"],
)
def test_what_has_no_limb_is_seen_whole(grey):
    assert focus.crop(grey) == WHOLE


def test_what_would_become_very_large_is_seen_whole():
    grey = np.full((2000, 2000), 20, np.uint8)
    grey[900:1100, 900:1100] = 90
    assert focus.crop(grey) == WHOLE


def test_what_reaches_the_border_keeps_the_border():
    grey = limb()
    grey[450:, 300:500] = grey[250:400, 300:500].max()
    assert focus.crop(grey).bottom == 1.0


@pytest.mark.parametrize("bits", [8, 16])
def test_depth_and_exposure_do_not_matter(bits):
    grey = limb()
    other = grey.astype(np.uint16) * 100 + 3000 if bits == 16 else (grey // 2 + 40).astype(np.uint8)
    np.testing.assert_allclose(focus.crop(other), focus.crop(grey), atol=0.02)


def test_samples_keep_their_fractures():
    """Of every simulated fracture in samples/ the whole mask is on the canvas."""
    compared = 0
    for path in sorted((ROOT / "samples" / "masks").glob("*.png")):
        picture = ROOT / "samples" / path.name
        if not picture.exists():
            continue  # a DICOM file, which has the same content
        grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
        rows, columns = focus.inside(focus.crop(grey), *grey.shape)
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask.any()
        assert mask[rows, columns].sum() == mask.sum(), path.name
        compared += 1
    assert compared > 6


def test_whole_pixels_are_these_pixels_again():
    for side in (97, 100, 1000, 2999):
        for start in range(0, side, 7):
            crop = Crop(start / side, 0.0, (start + 5) / side, 1.0)
            rows, columns = focus.inside(crop, side, 3)
            assert (rows, columns) == (slice(start, min(start + 5, side)), slice(0, 3))


def test_the_canvas_is_that_of_what_was_cut_out():
    grey, spec = limb(), Preprocessing(size=64, focus=True)
    canvas, crop = framed(grey, spec)
    rows, columns = focus.inside(crop, *grey.shape)
    plain = replace(spec, focus=False)
    np.testing.assert_array_equal(canvas, to_canvas(grey[rows, columns], plain))
    assert framed(grey, plain)[1] == WHOLE
    assert (canvas != to_canvas(grey, plain)).any()


def test_a_heatmap_lies_where_the_picture_was_cut():
    values = np.zeros((9, 9), np.float32)
    values[4, 4] = 0.8
    heat = on_picture(Heatmap(values, "Grad-CAM", Crop(0.5, 0.25, 1.0, 0.75)), 200, 400)
    assert heat.shape == (200, 400)
    assert not heat[:100].any()
    assert not heat[:, :100].any()
    assert not heat[:, 300:].any()
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y, x) == (pytest.approx(150, abs=2), pytest.approx(200, abs=2))


@pytest.fixture
def focused(weights: Path, tmp_path: Path) -> Cascade:
    """The random release, of a preprocessing that cuts."""
    for path in sorted(weights.rglob("*.safetensors")):
        target = tmp_path / path.relative_to(weights)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    manifest = json.loads((weights / "manifest.json").read_text())
    for release in manifest["releases"]:
        release["preprocessing"]["focus"] = True
        release["architecture"] = FOCUSED
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return Cascade.load(tmp_path)


@pytest.mark.parametrize("called", [ARCHITECTURE, FOCUSED])
def test_a_release_is_called_by_the_pictures_it_is_shown(weights, called):
    """A program from before the cut knows ARCHITECTURE alone, and refuses what is cut."""
    [entry] = json.loads((weights / "manifest.json").read_text())["releases"]
    for cut in (False, True):
        changed = entry | {"architecture": called}
        changed["preprocessing"] = entry["preprocessing"] | {"focus": cut}
        if cut == (called == FOCUSED):
            assert Release.from_json(changed).preprocessing.focus is cut
        else:
            with pytest.raises(WeightsInvalid, match="which this version cannot load"):
                Release.from_json(changed)


def test_a_release_that_cuts_says_where_it_looked(focused):
    """By page, by batch and by another method alike; and what the worklist keeps is the same."""
    grey = limb()
    radiograph = Radiograph(grey, "a.png", "0" * 64, "PNG")
    part = focused.release.parts[0]
    [result] = focused.predict([radiograph], part)
    crop = framed(grey, focused.release.preprocessing)[1]
    assert crop != WHOLE
    assert result.heatmap.crop == crop
    assert focused.explain(radiograph, part).crop == crop
    assert focused.explain(radiograph, part, "LayerCAM").crop == crop
    heat = on_picture(result.heatmap, *grey.shape)
    assert not heat[: int(crop.top * grey.shape[0])].any()
    kept = unpack(pack(result), "a.png", result.sha256, result.release, result.release_sha256, 1)
    assert kept.heatmap.crop == crop
    old = pack(result)
    del old["heatmap"]["crop"]
    assert unpack(old, "a.png", None, "r", "s", 1).heatmap.crop == WHOLE


def test_the_details_say_what_was_looked_at(focused):
    grey = limb()
    radiograph = Radiograph(grey, "a.png", "0" * 64, "PNG")
    [result] = focused.predict([radiograph], focused.release.parts[0])
    top, _, bottom, _ = result.heatmap.crop
    said = f"{100 * top:.0f} to {100 * bottom:.0f}&nbsp;% of the height"
    assert said in _reading.details(result, None, None)
    whole = replace(result, heatmap=replace(result.heatmap, crop=WHOLE))
    assert "the whole picture" in _reading.details(whole, None, None)


def test_a_batch_of_a_release_that_cuts_gives_what_the_page_gives(focused, tmp_path, monkeypatch):
    """The record and the picture of the heatmap, whose place the batch keeps beside the canvas."""
    part = focused.release.parts[0]
    assess = focused.assess
    monkeypatch.setattr(focused, "assess", lambda canvases, _=None: assess(canvases, part))
    (tmp_path / "in").mkdir()
    data = encoded(limb(), "PNG")
    (tmp_path / "in" / "a.png").write_bytes(data)
    scorer = Scorer(focused, ImageLimits(), heatmaps=tmp_path)
    [[record]] = scorer.records(Folder(tmp_path / "in"), ["a.png"], Nothing())
    _, result = diagnose(focused, data, "a.png", ImageLimits(), part)
    assert record["fracture"]["probability"] == result.to_json()["fracture"]["probability"]
    [path] = tmp_path.glob("*.png")
    drawn = cv2.imread(str(path)).astype(int)
    coloured = np.ptp(drawn, axis=2) > 0
    height, width = drawn.shape[:2]
    rows, columns = focus.inside(result.heatmap.crop, height, width)
    inside = np.zeros((height, width), bool)
    inside[rows.start - 1 : rows.stop + 1, columns.start - 1 : columns.stop + 1] = True
    assert coloured[inside].any()
    assert not coloured[~inside].any()
    heat = on_picture(result.heatmap, height, width)
    assert np.corrcoef(heat[inside], np.ptp(drawn, axis=2)[inside])[0, 1] > 0.8
