"""The pages without a browser: what is on them, and what is computed when."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from core.cascade import Cascade
from core.settings import ROOT
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
)
from pages import _card, _cascade, _downloads, _scoring, _sources, _theme
from tests.simulated import encoded, phantom

APP = str(ROOT / "streamlit_app.py")


@pytest.fixture(autouse=True)
def _fresh(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has loaded nothing, on the CPU, without samples."""
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setattr(_sources, "SAMPLES", tmp_path / "samples")
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_file(APP, default_timeout=60).run()


def picture(seed: int = 0) -> bytes:
    return encoded(phantom(200, 160, seed=seed), "PNG")


def text(app: AppTest) -> str:
    """Everything that is written on the page, with its markup."""
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.file_uploader[0].set_value([(name, data, "image/png") for name, data in files])
    return app.run()


def test_first_page_says_what_to_do_and_imports_no_torch() -> None:
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from pages import _cascade;"
        "_cascade.Loader.start = lambda self: __import__('concurrent.futures').futures.Future();"
        f"app = AppTest.from_file({APP!r}).run();"
        "assert app.file_uploader and not app.exception;"
        "assert not {'torch', 'cv2', 'pydicom'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


def test_empty_state(app: AppTest) -> None:
    assert not app.exception
    assert "elbow, the hand and the shoulder" in text(app)
    assert _theme.RESEARCH_ONLY in text(app)


def test_three_files_one_of_them_broken(app: AppTest) -> None:
    upload(app, ("a.png", picture()), ("broken.png", b"no picture"), ("b.png", picture(1)))
    assert not app.exception
    page = text(app)
    assert page.count("calibrated") == 2
    assert "not a picture" in page
    assert len(app.slider) == 2
    assert "sensitivity" in page and "specificity" in page and "n&nbsp;=&nbsp;40" in page
    assert page.count("scaled by the probability") == 1
    assert "Release random" in page


def test_slider_and_second_run_do_not_score_again(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, ("a.png", picture()))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("scored twice")

    monkeypatch.setattr(Cascade, "predict", never)
    app.slider[0].set_value(80).run()
    assert app.slider[0].value == 80
    app.toggle[0].set_value(False).run()
    assert app.slider[0].disabled
    assert "Something went wrong" not in text(app)


def test_part_chosen_by_the_reader_is_marked(app: AppTest) -> None:
    upload(app, ("a.png", picture()))
    app.selectbox[0].select("shoulder").run()
    assert "Chosen by the reader" in text(app)
    assert "Recognised as" in text(app)
    app.selectbox[0].select("recognised").run()
    assert "Chosen by the reader" not in text(app)


def test_many_files_have_a_summary_and_one_card(app: AppTest) -> None:
    files = [(f"{n}.png", picture(n)) for n in range(5)]
    upload(app, *files, ("broken.png", b"no picture"))
    assert not app.exception
    summary = app.dataframe[0].value
    assert list(summary["File"]) == ["0.png", "1.png", "2.png", "3.png", "4.png", "broken.png"]
    assert summary["Probability"].notna().sum() == 5
    assert len(app.slider) == 1
    app.button("next").click().run()
    assert "<b>1.png</b>" in text(app)
    app.button_group("order").set_value("Most suspected first").run()
    ordered = app.dataframe[0].value["Probability"].dropna()
    assert ordered.is_monotonic_decreasing


def test_clear_all_forgets(app: AppTest) -> None:
    upload(app, ("a.png", picture()))
    assert app.session_state["scoring"].results
    app.button("clear").click().run()
    assert "scoring" not in app.session_state
    assert not app.slider


def test_damaged_weights_are_named_and_nothing_is_predicted(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "weights"
    shutil.copytree(weights, damaged)
    path = damaged / "random" / "trunk.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setenv("BONE_WEIGHTS", str(damaged))
    app = AppTest.from_file(APP, default_timeout=60).run()
    _cascade.loader().start().exception()
    app.run()
    assert not app.exception
    assert "random/trunk.safetensors is damaged" in text(app)
    assert "No model" in text(app)
    assert not app.file_uploader
    path.write_bytes((weights / "random" / "trunk.safetensors").read_bytes())
    app.button[0].click().run()
    assert app.file_uploader


def test_damaged_weights_with_a_file_already_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path))
    app = AppTest.from_file(APP, default_timeout=60).run()
    upload(app, ("a.png", picture()))
    assert not app.exception
    assert "There is no manifest.json" in text(app)
    assert not app.slider


def test_a_setting_without_meaning_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONE_DEVICE", "abacus")
    app = AppTest.from_file(APP).run()
    assert not app.exception
    assert text(app).count("BONE_DEVICE must be") == 1


def test_unexpected_error_has_a_number_and_no_trace_on_the_screen(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(_scoring, "diagnose", fail)
    upload(app, ("a.png", picture()))
    assert not app.exception
    assert "in the log as error" in text(app)
    assert "secret detail" not in text(app)
    assert "secret detail" in caplog.text


def test_samples_are_offered_and_read(app: AppTest, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "one.png").write_bytes(picture())
    (folder / "manifest.csv").write_text(
        "id,source,part,positive,file,title\n"
        "s1,simulated,hand,0,one.png,Hand\ns2,simulated,hand,0,missing.png,Gone\n"
    )
    app.run()
    assert [b.label for b in app.button] == ["Hand"]
    app.button("try-s1").click().run()
    assert "calibrated" in text(app)


def test_damaged_sample_manifest_offers_nothing(app: AppTest, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "manifest.csv").write_text("nonsense\n1\n")
    assert not app.run().exception
    assert not app.button


def test_markup_in_a_file_name_stays_text(app: AppTest) -> None:
    upload(app, ("<img src=x onerror=alert(1)>.png", picture()))
    assert "<img" not in text(app)
    assert "&lt;img src=x" in text(app)


def result(**changes: object) -> ImageResult:
    values = {
        "file": "a.png",
        "sha256": "0" * 64,
        "reason": None,
        "release": "r1",
        "release_sha256": "1" * 64,
        "milliseconds": 1.0,
        "body_part": BodyPartPrediction(BodyPart.HAND, 0.9, {BodyPart.HAND: 0.9}),
        "fracture": FracturePrediction(0.83, Finding.SUSPECTED),
        "heatmap": Heatmap(np.ones((7, 7), np.float32), "Grad-CAM"),
    }
    return ImageResult(**(values | changes))


def test_csv_has_every_input_and_no_formula() -> None:
    records = [
        _downloads.Record(result(file="=cmd|'/c calc'!A0.png")),
        _downloads.Record(result(), BodyPart.ELBOW),
        _downloads.Record(result(reason="Empty.", body_part=None, fracture=None, heatmap=None)),
    ]
    rows = list(csv.DictReader(io.StringIO(_downloads.to_csv(records))))
    assert [r["status"] for r in rows] == ["ok", "ok", "rejected"]
    assert rows[0]["file"].startswith("'=")
    assert rows[1]["assessed_as"] == "elbow"
    assert float(rows[0]["fracture_probability"]) == 0.83
    assert rows[2]["reason"] == "Empty."


def test_json_lines_are_the_public_records() -> None:
    (line,) = _downloads.to_json_lines([_downloads.Record(result())]).splitlines()
    assert json.loads(line) == result().to_json() | {"assessed_as": None}


@pytest.mark.parametrize("width", [40, 300])
def test_png_keeps_the_picture_and_adds_a_strip(width: int) -> None:
    picture = np.full((200, width, 3), 7, np.uint8)
    image = Image.open(io.BytesIO(_downloads.to_png(picture, _downloads.Record(result()))))
    pixels = np.asarray(image)
    assert (pixels[:200] == picture).all()
    assert pixels.shape[1] == width and len(pixels) > 200
    assert pixels[200:].max() > 100  # something is written


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.004, "&lt;1"), (0.125, "12"), (0.996, "&gt;99"), (1.0, "100")],
)
def test_percent_is_never_more_certain_than_the_probability(value: float, words: str) -> None:
    assert _theme.percent(value) == f"{words}&nbsp;%"


def test_findings_differ_by_word_and_shape() -> None:
    badges = [_card.badge(f) for f in (*Finding, None)]
    assert len(set(badges)) == 4
    css = (ROOT / "pages" / "_theme.css").read_text()
    assert all(f".finding.{f.value} i" in css for f in Finding)


def test_view_keeps_proportions_and_stretches_deep_pictures() -> None:
    deep = phantom(3000, 1500, bits=12)
    pixels, how = _scoring.windowed(deep)
    assert pixels.dtype == np.uint8 and pixels.max() == 255 and "stretched" in how
    from core.types import Radiograph

    view = _scoring.View.of(Radiograph(deep, "a", "0" * 64, "DICOM", (0.1, 0.1), ("A note.",)))
    assert view.pixels.shape == (1440, 720)
    assert ("Note", "A note.") in view.facts


def test_shallow_pictures_are_shown_as_they_are() -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    pixels, _ = _scoring.windowed(grey)
    assert pixels is grey


def test_memory_is_bounded() -> None:
    memory: _scoring.Bounded[int, int] = _scoring.Bounded(3)
    for n in range(5):
        memory.get(n, lambda n=n: n)
    memory.get(2, lambda: -1)
    memory.get(9, lambda: 9)
    assert [n in memory for n in (0, 1, 2, 3, 4, 9)] == [False, False, True, False, True, True]
