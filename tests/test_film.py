"""Photographs of films: found as such, cut out, marked; and radiographs, which pass as they are."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from core import corners, film, imaging
from core.cascade import Cascade
from core.errors import ImageRejected
from core.film import Wish
from core.pipeline import diagnose
from core.settings import ROOT, ImageLimits
from core.store import records
from core.study import combine
from core.types import (
    NEARLY_ALL,
    BodyPart,
    BodyPartPrediction,
    ImageResult,
    Photograph,
    Radiograph,
)
from pages import _film, _scoring
from pages._correct import Study
from pages._sources import Source
from pages._study import StudyCard
from pages._viewer import Prepared
from tests.simulated import dicom, encoded, phantom
from training import photographs
from training.camera import Carrier, Settings, photograph

LIMITS = ImageLimits()
EASY = Settings(side=900, exif=1.0)
SAMPLES = ("elbow_ap_001", "hand_pa_008", "shoulder_ap_016")


def sample(name: str) -> np.ndarray:
    return imaging.read(ROOT / "samples" / f"{name}.png", LIMITS).pixels


def decoded(data: bytes) -> Radiograph:
    return imaging.decode(data, "photograph.jpg", LIMITS)


@pytest.fixture(scope="module")
def taken():
    """Of each sample a photograph on a light box."""
    return {n: photograph(sample(n), Carrier.FILM, k, EASY) for k, n in enumerate(SAMPLES)}


def test_equal_seeds_give_equal_photographs():
    grey = phantom(200, 160)
    one, same, other = (photograph(grey, Carrier.SCREEN, seed, EASY) for seed in (1, 1, 2))
    assert one.data == same.data != other.data
    assert np.array_equal(one.corners, same.corners)


def test_a_box_on_the_film_is_found_again_in_the_photograph():
    photo = np.zeros((600, 800), np.uint8)
    cv2.rectangle(photo, (300, 200), (379, 319), 255, -1)
    given = ((0.1, 0.15), (0.9, 0.05), (0.8, 0.95), (0.2, 0.8))
    seen = film.straightened(decoded(encoded(photo, "PNG")), given).pixels
    down, across = np.nonzero(seen > 127)
    height, width = seen.shape
    box = (across.min() / width, down.min() / height)
    box += ((across.max() + 1) / width, (down.max() + 1) / height)
    left, top, right, bottom = film.in_photograph(box, given)
    # it encloses what was marked, and no more than its perspective makes it
    assert left <= 300 / 800 + 0.005 and right >= 380 / 800 - 0.005
    assert top <= 200 / 600 + 0.005 and bottom >= 320 / 600 - 0.005
    assert (right - left) * (bottom - top) < 1.7 * (80 / 800) * (120 / 600)
    assert film.in_photograph((0, 0, 1, 1), given) == pytest.approx(
        (0.1, 0.05, 0.9, 0.95), abs=0.01
    )


def test_a_box_on_the_photograph_is_found_again_on_the_film():
    given = ((0.1, 0.15), (0.9, 0.05), (0.8, 0.95), (0.2, 0.8))
    for there in ((0.3, 0.2, 0.5, 0.6), (0.0, 0.0, 0.2, 0.1), (0.95, 0.9, 1.0, 1.0)):
        left, top, right, bottom = film.on_film(film.in_photograph(there, given), given)
        assert left <= there[0] + 0.005 and top <= there[1] + 0.005
        assert right >= there[2] - 0.005 and bottom >= there[3] - 0.005
        assert (right - left) * (bottom - top) < 2 * (there[2] - there[0]) * (there[3] - there[1])
    assert film.on_film((0, 0, 1, 1), given) == pytest.approx((0, 0, 1, 1), abs=0.01)
    assert film.on_film((0.85, 0.96, 1, 1), given) is None  # beside the film
    # half of it beside the film, of a camera that was held steeply
    steep = ((0.4, 0.1), (0.6, 0.1), (0.95, 0.9), (0.05, 0.9))
    left, top, right, bottom = film.on_film((0.5, 0.0, 1.0, 0.5), steep)
    assert (top, right) == (0, 1) and left == pytest.approx(0.5, abs=0.01) and bottom < 0.95


@pytest.mark.parametrize("name", SAMPLES)
def test_the_corners_of_a_film_are_found_and_it_is_straightened(taken, name):
    seen = film.as_seen(decoded(taken[name].data))
    assert photographs.distance(taken[name], seen.photograph.corners) < 0.02
    there = sample(name)
    height, width = seen.pixels.shape
    assert width / height == pytest.approx(there.shape[1] / there.shape[0], rel=0.06)
    small = [cv2.resize(p, (64, 64), interpolation=cv2.INTER_AREA) for p in (there, seen.pixels)]
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.85
    assert seen.pixels.dtype == np.uint8 and not seen.pixels.flags.writeable


def test_a_radiograph_on_a_page_of_a_screen_is_found():
    page = np.full((900, 1200), 90, np.uint8)
    there = np.array([[300, 150], [850, 180], [840, 760], [280, 740]], float)
    cv2.fillConvexPoly(page, there.astype(np.int32), 15)
    cv2.circle(page, (560, 460), 180, 200, -1)
    found = corners.find(page)
    assert np.abs(found.corners - there).max() < 4
    assert found.support > 0.9


def test_nothing_is_found_in_what_has_no_edges():
    assert corners.find(np.full((300, 300), 128, np.uint8)) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_plain_radiograph_passes_as_the_same_object(form):
    for pixels in (sample("hand_pa_008"), np.stack([sample("elbow_ap_001")] * 3, -1)):
        radiograph = imaging.decode(encoded(pixels, form), "a", LIMITS)
        assert film.as_seen(radiograph) is radiograph
        assert radiograph.photograph is None and radiograph.cast == 0
        assert not film.suspected(radiograph)


def test_dicom_is_never_a_photograph():
    radiograph = imaging.decode(dicom(phantom(200, 160)), "a", LIMITS)
    assert film.as_seen(radiograph) is radiograph and not film.suspected(radiograph)
    coloured = film.as_seen(replace(radiograph, cast=90.0, exposed=True))
    assert coloured.photograph is None and coloured.pixels is radiograph.pixels


def test_colours_in_a_dicom_file_are_warned_of_as_in_another():
    grey = np.stack([sample(SAMPLES[1])] * 3, -1)
    taken = grey.astype(float)
    taken[..., 2] *= 0.7 + 0.2 * np.random.default_rng(0).random(grey.shape[:2])
    tinted = np.stack([grey[..., 0], grey[..., 0], np.minimum(255, grey[..., 0] + 5.0)], -1)
    for colours, warned in ((grey, False), (tinted, False), (taken, True)):
        pixels = colours.astype(np.uint8)
        radiograph = imaging.decode(dicom(pixels), "a", LIMITS)
        seen = film.as_seen(radiograph)
        assert (film.COLOURED in seen.cautions) == warned == film.suspected(radiograph)
        same = film.as_seen(imaging.decode(encoded(pixels, "PNG"), "a", LIMITS))
        assert seen.cautions == same.cautions and seen.photograph is None
        assert film.as_seen(radiograph, Wish.AS_TAKEN) is radiograph


def test_colours_of_all_the_picture_tell_a_photograph_and_marks_on_it_do_not():
    grey = np.stack([phantom(300, 240)] * 3, -1)
    marked, tinted = grey.copy(), grey.astype(float)
    marked[:40, :60] = (255, 40, 40)
    tinted[..., 2] *= 0.8 + 0.1 * np.random.default_rng(0).random(grey.shape[:2])
    casts = [decoded(encoded(p.astype(np.uint8), "PNG")).cast for p in (grey, marked, tinted)]
    assert casts[0] == casts[1] == 0 and casts[2] > film.CAST


def test_a_tinted_radiograph_is_read_whole():
    """As a scanned film on a blue base, or a screenshot with a colour profile, is."""
    paths = sorted((ROOT / "samples").glob("*_*.png"))
    assert len(paths) > 15
    for n, path in enumerate(paths):
        grey = imaging.read(path, LIMITS).pixels.astype(float)
        tints = (grey, grey, np.minimum(255, grey + 5)), (grey, 0.92 * grey, 0.75 * grey)
        tinted = np.stack(tints[n % 2], -1).round().astype(np.uint8)
        radiograph = imaging.decode(encoded(tinted, "PNG"), path.name, LIMITS)
        assert radiograph.cast == 0
        assert film.as_seen(radiograph) is radiograph


def test_colours_without_a_clear_film_are_read_whole_and_asked_about():
    """Here and there another tint, as of a JPEG file; and of bone and field no film is cut."""
    radiograph = replace(imaging.read(ROOT / "samples" / f"{SAMPLES[0]}.png", LIMITS), cast=9.0)
    assert film.find(radiograph)  # what was cut out before
    seen = film.as_seen(radiograph)
    assert seen.pixels is radiograph.pixels and seen.photograph is None
    assert film.COLOURED in seen.cautions and film.suspected(radiograph)
    assert not film.is_photograph(radiograph)
    assert film.as_seen(radiograph, Wish.AS_TAKEN) is radiograph  # a reader has said so
    again = film.as_seen(radiograph, film.way_of(seen.photograph))  # and here nobody has
    assert again.pixels is radiograph.pixels and film.COLOURED in again.cautions


@pytest.mark.parametrize("carrier", Carrier)
def test_a_photograph_without_a_header_is_known_by_its_colours(carrier):
    data = photograph(sample(SAMPLES[1]), carrier, 3, Settings(side=900, exif=0.0)).data
    radiograph = decoded(data)
    assert not radiograph.exposed and film.is_photograph(radiograph)
    assert film.as_seen(radiograph).photograph.corners == film.find(radiograph)
    assert film.as_seen(radiograph, Wish.AS_TAKEN).photograph == Photograph(None)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_the_header_of_a_camera_tells_a_photograph_and_a_broken_one_says_nothing(taken):
    assert decoded(taken[SAMPLES[0]].data).exposed
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\xff\xff\xff\0\0\0\0"
    assert not decoded(encoded(phantom(100, 100), "JPEG", exif=broken)).exposed


def test_where_no_film_is_clear_it_is_read_as_taken_and_a_reader_may_say_otherwise():
    blurred = cv2.GaussianBlur(phantom(300, 300), (0, 0), 12)
    radiograph = Radiograph(blurred, "a", "0" * 64, "JPEG", exposed=True)
    assert film.find(radiograph) is None
    left = film.as_seen(radiograph)
    assert left.photograph == Photograph(None) and left.pixels is radiograph.pixels
    by_reader = film.as_seen(radiograph, Wish.PHOTOGRAPH)
    assert by_reader.photograph.corners == film.NEARLY_ALL and by_reader.photograph.guessed
    assert "no film was clearly found" in by_reader.notes[-1]
    again = film.as_seen(radiograph, film.way_of(by_reader.photograph))
    assert again.photograph.guessed and np.array_equal(again.pixels, by_reader.pixels)
    asked = _scoring.Session()
    source = Source("s", "a", lambda: b"a")
    assert asked.suspected(source, Prepared.of(by_reader))
    moved = film.as_seen(radiograph, ((0.06, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)))
    assert not moved.photograph.guessed and not asked.suspected(source, Prepared.of(moved))


def test_a_grey_photograph_without_a_header_is_asked_about():
    page = np.full((600, 800), 220, np.uint8)
    there = np.array([[220, 90], [560, 120], [540, 520], [200, 500]], np.int32)
    cv2.fillConvexPoly(page, there, 20)
    radiograph = Radiograph(page, "a", "0" * 64, "PNG")
    assert film.suspected(radiograph)
    assert film.as_seen(radiograph) is radiograph


def test_given_corners_are_the_corners_of_the_result():
    page = np.zeros((400, 500), np.uint16)
    page[100:300, 150:400] = 40_000
    given = ((0.3, 0.25), (0.8, 0.25), (0.8, 0.75), (0.3, 0.75))
    seen = film.as_seen(Radiograph(page, "a", "0" * 64, "TIFF", (0.1, 0.1)), given)
    assert seen.pixels.shape == (200, 250) and seen.pixels.dtype == np.uint16
    assert (seen.pixels == 40_000).mean() > 0.99
    assert seen.photograph.corners == given and seen.pixel_spacing is None


def test_the_bands_of_a_screen_are_taken_out_and_a_radiograph_stays():
    grey = cv2.resize(sample("hand_pa_008"), None, fx=1.5, fy=1.5)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    along = 0.8 * x + 0.6 * y
    bands = 1 + 0.05 * np.sin(2 * np.pi * (along + 0.02 * along**2 / 1000) / 11)
    banded = np.rint((grey * bands).clip(0, 255)).astype(np.uint8)

    def off(picture: np.ndarray) -> float:
        return float(np.abs(picture.astype(float) - grey).mean())

    assert off(film.without_moire(banded)) < 0.4 * off(banded)
    assert off(film.without_moire(grey)) < 0.1
    flat = np.full((200, 200), 90, np.uint16)
    assert film.without_moire(flat) is flat


@pytest.mark.parametrize(
    "values",
    [
        None,
        "corners",
        [[0, 0], [1, 0], [1, 1]],
        [[0, 0], [1, 0], [0, 1], [1, 1]],  # crossing
        [[0, 0], [1.2, 0], [1, 1], [0, 1]],
        [[0, 0], [float("nan"), 0], [1, 1], [0, 1]],
        [[0.5, 0.5], [0.51, 0.5], [0.51, 0.51], [0.5, 0.51]],
        [{}, {}, {}, {}],
    ],
)
def test_what_a_browser_sends_is_checked(values):
    assert film.checked(values, (300, 300), 32) is None
    whole = ((0, 0), (1, 0), (1, 1), (0, 1))
    assert film.checked([list(corner) for corner in whole], (300, 300), 32) == whole


@pytest.mark.parametrize(
    ("shape", "high", "taken"),
    [((1000, 1000), 0.036, True), ((1000, 1000), 0.03, False), ((4000, 10_000), 0.02, False)],
)
def test_what_is_cut_out_by_hand_is_no_smaller_than_a_file_may_be(shape, high, taken):
    """The last one has 80 rows, but a side of 10,000 pixels, which is made smaller."""
    given = ((0.0, 0.4), (1.0, 0.4), (1.0, 0.4 + high), (0.0, 0.4 + high))
    found = film.checked(given, shape, LIMITS.min_side)
    assert (found is not None) == taken
    seen = film.straightened(Radiograph(np.zeros(shape, np.uint8), "a", "0" * 64, "PNG"), given)
    assert (min(seen.pixels.shape) >= LIMITS.min_side) == taken


def test_the_mark_goes_along(cascade: Cascade, taken, weights):
    data = taken[SAMPLES[1]].data
    radiograph, result = diagnose(cascade, data, "a.jpg", LIMITS)
    assert result.photograph == radiograph.photograph
    record = json.loads(json.dumps(result.to_json()))
    assert len(record["photograph"]["corners"]) == 4
    assert result.to_row()["photograph"] == "straightened"
    packed = json.loads(json.dumps(records.pack(result)))
    again = records.unpack(packed, "a.jpg", result.sha256, result.release, result.release_sha256, 1)
    assert again.photograph == result.photograph
    del packed["photograph"]  # as it was packed before there were any
    old = records.unpack(packed, "a.jpg", result.sha256, result.release, result.release_sha256, 1)
    assert old.photograph is None
    as_taken = diagnose(cascade, data, "a.jpg", LIMITS, way=Wish.AS_TAKEN)[1]
    assert as_taken.to_row()["photograph"] == "as taken"
    plain = diagnose(cascade, encoded(phantom(200, 160), "PNG"), "b.png", LIMITS)[1]
    assert plain.to_json()["photograph"] is None and plain.to_row()["photograph"] is None
    said = " ".join(combine("s", [result, as_taken, plain], cascade.release).notes)
    assert "From a photograph (1 of 3 views)" in said and "looks like a photograph (1 of" in said


def test_the_same_corners_make_the_same_picture_again(taken):
    radiograph = decoded(taken[SAMPLES[2]].data)
    seen = film.as_seen(radiograph)
    again = film.as_seen(radiograph, film.way_of(Photograph.from_json(seen.photograph.to_json())))
    assert np.array_equal(again.pixels, seen.pixels)
    assert film.as_seen(radiograph, film.way_of(None)).pixels is radiograph.pixels


def test_a_session_remembers_what_the_reader_wants(cascade, taken, monkeypatch):
    monkeypatch.setattr("pages._audit.write", lambda *_, **__: None)
    monkeypatch.setattr("pages._access.actor", lambda: "a")
    data = taken[SAMPLES[0]].data
    memory, source = _scoring.Session(), Source("1", "a.jpg", lambda: data)
    first = memory.result(source, cascade, LIMITS)
    assert first.photograph.corners and not memory.suspected(source, memory.picture(source, LIMITS))
    memory.ways["1"] = Wish.AS_TAKEN
    assert not memory.known(source, cascade)
    assert memory.result(source, cascade, LIMITS).photograph == Photograph(None)
    whole = memory.picture(source, LIMITS)
    assert whole.size == taken[SAMPLES[0]].size and memory.suspected(source, whole)
    memory.ways["1"] = ((0, 0), (1, 0), (1, 1), (0, 1))
    assert memory.result(source, cascade, LIMITS).photograph.corners == memory.ways["1"]
    with pytest.raises(ImageRejected):
        memory.taken(Source("2", "b", lambda: b"no picture"), LIMITS)
    small, shape = memory.taken(source, LIMITS)
    assert small.startswith(b"\xff\xd8") and shape == taken[SAMPLES[0]].size


def test_corners_are_taken_for_the_photograph_before_and_for_no_other_file(monkeypatch):
    drawn, state = {}, {}
    monkeypatch.setattr(_film, "_component", lambda: lambda **told: drawn.update(told))
    monkeypatch.setattr(_film, "_choice", lambda *_: None)
    monkeypatch.setattr(_film.st, "session_state", state)
    memory, corners_ = _scoring.Session(), [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
    found = ImageResult("a", "0" * 64, None, "r", "0" * 64, 1.0)
    found = replace(found, photograph=Photograph(tuple(map(tuple, corners_))))
    data = encoded(phantom(300, 300), "JPEG")
    for name in ("a", "b"):  # the second one is looked at now
        _film.beside(Source(name, name, lambda: data), found, memory, LIMITS)
    for whose in ("a", "c", ["a"], None):
        state["film"] = {"event": {"id": whose, "corners": corners_}}
        drawn["on_event_change"]()
    assert list(memory.ways) == ["a"]
    memory.ways.clear()
    strip = [[0.1, 0.4], [0.9, 0.4], [0.9, 0.5], [0.1, 0.5]]  # of 300 pixels 30
    state["film"] = {"event": {"id": "a", "corners": strip}}
    drawn["on_event_change"]()
    assert not memory.ways


def test_a_report_has_the_picture_that_its_result_is_of(cascade, monkeypatch):
    """Though the reader has moved a corner since, and the page is about to read it again."""
    monkeypatch.setattr("pages._audit.write", lambda *_, **__: None)
    made = []
    monkeypatch.setattr("pages._study.report.pdf", lambda report: made.append(report) or b"")
    then = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    data = encoded(phantom(300, 300), "JPEG")
    source, memory = Source("1", "a.jpg", lambda: data), _scoring.Session()
    seen = BodyPartPrediction(BodyPart.ELBOW, 0.9, {BodyPart.ELBOW: 0.9})
    release = cascade.release
    result = ImageResult("a.jpg", "0" * 64, None, release.id, release.sha256, 1.0, seen)
    result = replace(result, photograph=Photograph(then))
    study = Study((source,), combine("a", [result], release))
    card = StudyCard(study, cascade, memory, LIMITS, {})
    memory.ways["1"] = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))
    card._report("pdf", False, "sensitive", None, "ann")
    assert made[0].radiographs[0].photograph.corners == then
    # one that is no photograph, or was not touched, is the one on the page
    for way, taken_as in ((Wish.AUTOMATIC, None), (Wish.AS_TAKEN, Photograph(None))):
        memory = _scoring.Session(ways={"1": way})
        seen = memory.picture(source, LIMITS).radiograph
        study = Study((source,), combine("a", [replace(result, photograph=taken_as)], release))
        StudyCard(study, cascade, memory, LIMITS, {})._report("pdf", False, "sensitive", None, "a")
        assert made.pop().radiographs[0] is seen and len(memory.pictures.items()) == 1


@pytest.mark.parametrize("guessed", [True, False])
def test_nothing_is_offered_to_stay_where_the_middle_was_taken(monkeypatch, guessed):
    """That button read the photograph whole, as the one beside it says."""
    offered = []
    monkeypatch.setattr(_film, "_choice", lambda label, *_: offered.append(label))
    taken = Photograph(NEARLY_ALL if guessed else None)
    radiograph = replace(decoded(encoded(phantom(300, 300), "JPEG")), photograph=taken)
    source = Source("1", "a.jpg", bytes)
    _film.question(source, Prepared.of(radiograph), _scoring.Session())
    assert offered == ([] if guessed else ["Straighten", "Leave it as it is"])


def test_what_the_camera_took_is_a_photograph_in_any_case(cascade, monkeypatch):
    monkeypatch.setattr("pages._audit.write", lambda *_, **__: None)
    monkeypatch.setattr("pages._access.actor", lambda: "a")
    data = encoded(phantom(300, 300), "JPEG")
    source = Source("1", "a.jpg", lambda: data, camera=True)
    assert _scoring.Session().result(source, cascade, LIMITS).photograph.corners


def test_the_mark_has_the_figures_of_the_release(cascade):
    figure = {"stage": "photographs", "part": "all", "source": "all", "level": "image"}
    figure |= {"metric": "finding the same", "value": 0.93, "low": 0.9, "high": 0.96, "n": 120}
    measured = replace(cascade.release, metrics={"figures": [figure]})
    assert "93&nbsp;% [90,&nbsp;96] of 120" in _film.mark(measured)
    assert "not measured" in _film.mark(cascade.release)


def test_what_is_counted(cascade, tmp_path):
    import pandas as pd

    path = tmp_path / "a.png"
    path.write_bytes(encoded(phantom(240, 200), "PNG"))
    rows = pd.DataFrame([{"path": str(path), "part": "hand", "patient": "p", "source": "s"}])
    found = {(r["part"], r["metric"]): r for r in photographs.measure(cascade, rows, 20)}
    assert {part for part, _ in found} == {"light box", "screen", "all"}
    assert found["all", "finding the same"]["n"] == 2
    assert 0 <= found["all", "corners within 2 %"]["value"] <= 1
    alarms = {(r["part"], r["metric"]): r["value"] for r in photographs.false_alarms(rows, 20)}
    taken = "taken for a photograph"
    assert alarms == {
        ("radiograph", taken): 0.0,
        ("radiograph", "asked about"): 0.0,
        ("tinted radiograph", taken): 0.0,
    }


def test_a_prepared_picture_keeps_the_mark(taken):
    seen = film.as_seen(decoded(taken[SAMPLES[0]].data))
    assert Prepared.of(seen).radiograph.photograph == seen.photograph
