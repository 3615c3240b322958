"""The page Diagnose with a release of several networks: the switch, and what each of them says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.registry import Registry
from core.settings import Settings
from core.store import Store
from core.types import (
    BodyPart,
    Finding,
    FracturePrediction,
    Heatmap,
    ImageResult,
    MemberPrediction,
    Mode,
)
from pages import _review_asked, _review_said, _study
from pages._review_report import Releases
from tests import worklist
from tests.ensembles import with_members
from tests.test_pages import APP, choice, picture, text, upload


@pytest.fixture(scope="module")
def two(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with_members(weights, folder, "EfficientNet-Lite2")
    return folder


@pytest.fixture(autouse=True)
def _fresh(two: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BONE_WEIGHTS", str(two))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setattr("core.quality.collapse", lambda *_: np.array([9.0, 0.0, 0.0, 0.0]))
    monkeypatch.setattr("core.cascade.Cascade._refusal", lambda *_: None)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def test_the_switch_asks_all_networks_and_shows_what_each_says() -> None:
    app = upload(AppTest.from_file(APP, default_timeout=180).run(), ("a.png", picture()))
    assert not app.exception
    assert "Networks:" not in text(app)
    methods = choice(app, "Heatmap method")
    assert "Grad-CAM, EfficientNet-Lite2" not in methods.options

    app.button_group("mode-random").set_value("ensemble").run()
    assert not app.exception
    assert "Networks: ResNet50" in text(app) and "EfficientNet-Lite2" in text(app)
    assert "points apart" in text(app)
    methods = choice(app, "Heatmap method")
    assert methods.options[:3] == ["Grad-CAM", "Grad-CAM, ResNet50", "Grad-CAM, EfficientNet-Lite2"]
    methods.set_value("Grad-CAM, EfficientNet-Lite2").run()
    assert not app.exception

    app.button_group("mode-random").set_value("fast").run()
    assert not app.exception
    assert "Networks:" not in text(app)
    assert choice(app, "Heatmap method").value == "Grad-CAM"


def test_a_map_of_one_network_says_so_with_what_that_one_says() -> None:
    members = (MemberPrediction("ResNet50", 0.03, 0.5), MemberPrediction("Other", 0.97, 0.5))
    fracture = FracturePrediction(0.6, Finding.DOUBTFUL, members)
    result = ImageResult("a", None, None, "r", "0" * 64, 1.0, fracture=fracture)
    said = _study._alone(result, "Eigen-CAM")
    assert "Eigen-CAM shows the ResNet50 alone (3&nbsp;%)" in said
    assert not _study._alone(result, "Grad-CAM")
    alone = replace(result, fracture=replace(fracture, members=()))
    assert not _study._alone(alone, "Eigen-CAM")


@pytest.mark.parametrize(("networks", "method"), [(2, "Eigen-CAM, ResNet50"), (0, "Eigen-CAM")])
def test_a_map_of_one_network_is_named_after_it_where_it_is_saved(
    monkeypatch: pytest.MonkeyPatch, networks: int, method: str
) -> None:
    monkeypatch.setattr("streamlit.session_state", {"kept": {_study.METHOD: "Eigen-CAM"}})
    heat = np.ones((2, 2), np.float32)
    members = (MemberPrediction("ResNet50", 0.03, 0.5), MemberPrediction("Other", 0.97, 0.5))
    fracture = FracturePrediction(0.6, Finding.DOUBTFUL, members[:networks])
    shown = ImageResult(
        "a", None, None, "r", "0" * 64, 1.0, fracture=fracture, heatmap=Heatmap(heat, "Grad-CAM")
    )
    asked: Future[Heatmap] = Future()
    asked.set_result(Heatmap(heat, "Eigen-CAM"))
    memory = SimpleNamespace(heatmap=lambda *_: asked)
    study = SimpleNamespace(sources=[None], result=SimpleNamespace(views=[shown]))
    found = _study.StudyCard(study, None, memory, None, {})._heatmap(0)  # type: ignore[arg-type]
    assert found is not None and found.method == method


def switch() -> None:
    from types import SimpleNamespace

    import streamlit as st

    from core.types import Mode
    from pages import _mode

    name, mode = st.session_state.get("release", ("one", Mode.FAST))
    chosen = st.session_state.get(_mode.KEPT, mode)
    _mode.choose(SimpleNamespace(id=name, modes=tuple(Mode), mode=chosen))
    st.markdown(chosen)


def test_another_release_begins_in_its_own_mode_until_the_reader_chooses() -> None:
    app = AppTest.from_function(switch).run()
    app.session_state["release"] = ("other", Mode.ENSEMBLE)
    for _ in range(2):
        app.run()
        assert app.button_group("mode-other").value == app.markdown[0].value == "ensemble"
    app.button_group("mode-other").set_value("fast").run()
    assert app.session_state["leave"]  # all of the page is drawn again
    app.session_state["release"] = ("one", Mode.ENSEMBLE)
    app.run()
    assert app.button_group("mode-one").value == app.markdown[0].value == "fast"


def test_a_part_named_on_review_is_asked_in_the_mode_of_the_study(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BONE_HOME", str(tmp_path))
    store = Store.open(Settings.from_environment())
    try:
        for mode in Mode:
            release = Registry.open(two).find("champion", mode)
            study = worklist.put(store, release, f"study in {mode}", 0.9, seed=len(mode))
            _review_asked.ask(store, store.study(study), BodyPart.ELBOW, "bob")
            record = store.study(study)
            [asked] = record.reassessments
            assert asked.release_sha256 == record.release_sha256 == release.sha256
            said = _review_said.reading_of(record, (asked,), Releases())
            assert "another mode" not in said
        other = replace(asked, release_sha256="0" * 64)
        said = _review_said.reading_of(record, (other,), Releases())
        assert "in another mode or with other parts" in said
    finally:
        store.close()
