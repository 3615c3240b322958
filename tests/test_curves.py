"""Curves of a run, and what is said of its data before it starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests import tiny
from training import curves
from training.jobs.datasets import DataSets, overview


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two validations of stage 1 and a part, with strangers and ``--steady``."""
    figures = {"body_part": 0.9, "stranger": 0.6, "hand": 0.8, "moved_hand": 0.15}
    common = {"phase": "joint", "rate": 1e-4, "loss": 1.0, "score": 0.7, "best": 0.7, "time": 1.0}
    lines = [json.dumps(common | figures | {"seen": seen}) for seen in (0, 8)]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_what_is_no_auroc_is_not_drawn_as_one(run: Path) -> None:
    table = curves.history(run)
    kinds = {name: curves.kind_of(name) for name in curves.figures(table)}
    assert kinds == {
        "body_part": "accuracy",
        "stranger": "accuracy",
        "hand": "AUROC",
        "moved_hand": "moved",
    }
    drawn = {trace.name: trace for trace in curves.plot(table).data}
    assert drawn.keys() == {
        "training loss",
        "body part, accuracy",
        "out-of-distribution, accuracy",
        "hand, AUROC",
        "hand, change when cropped",
    }
    # .15 lies below the axis of what begins at a half
    assert drawn["hand, change when cropped"].yaxis == "y3"
    assert drawn["hand, AUROC"].yaxis == "y2"
    assert (run / "curves.png") in curves.write(run)


def test_a_run_is_whole_without_tensorboard(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the app needs does not bring it."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with caplog.at_level("INFO"):
        curves.to_tensorboard(run)
    assert "TensorBoard is not installed" in caplog.text
    assert not (run / "tensorboard").exists()


def test_the_page_draws_each_kind_by_itself(run: Path) -> None:
    def script(folder: str) -> None:
        from pathlib import Path

        from pages import _curves
        from training import curves

        _curves.draw(curves.history(Path(folder)), "run")

    app = AppTest.from_function(script, args=(str(run),), default_timeout=60).run()
    drawn = {}
    for chart in app.get("plotly_chart"):
        spec = json.loads(chart.proto.spec)
        drawn[spec["layout"]["yaxis"]["title"]["text"]] = [t["name"] for t in spec["data"]]
    assert drawn["Accuracy of stage 1"] == [
        "body part, validation",
        "out-of-distribution, validation",
    ]
    assert drawn["AUROC of each part"] == ["hand, validation"]
    assert drawn[curves.CHANGE] == ["hand"]
    [button] = app.get("download_button")
    assert button.proto.deferred_file_id  # made on the click, see pages/_ahead.py


def test_a_part_without_pictures_is_refused_before_a_start(tmp_path: Path) -> None:
    """Also one that the cascade has no model of yet."""
    data = tiny.write(tmp_path / "data", each=2)
    found = overview([DataSets(tmp_path / "home", [tmp_path]).add("tiny", "manifest", str(data))])
    assert found.problems() == found.problems("hand") == found.problems("body_part") == []
    assert found.problems("forearm") == [
        f"The split {split} lacks positives or negatives of: forearm." for split in ("train", "val")
    ]
