"""The pages Training and Metrics without a browser: what they say, how exactly, and how fast."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.errors import StoreUnavailable
from core.process import Process
from core.settings import ROOT, Settings
from core.store import Store, export
from core.transforms import Preprocessing
from core.types import BodyPart
from pages import (
    _audit,
    _cascade,
    _configure,
    _figures,
    _mistakes,
    _plot,
    _reading,
    _runs,
    _shelf,
)
from tests import scored, tiny
from tests.conftest import random_release
from tests.permissions import not_permitted
from tests.test_catalogue import linked
from training import catalogue, compare, figures, measured, plots, records, report, threshold
from training.by_study import by_study, points_of
from training.catalogue import ReleaseRefused
from training.data import DataInvalid
from training.jobs import Job, Queue, Record, State, datasets, estimate, presets
from training.jobs.datasets import DataSets

PAGES = {name: str(ROOT / "pages" / f"{name}.py") for name in ("training", "metrics", "releases")}
SETTINGS = {"joint_passes": 4000, "body_part_passes": 2000, "branch_passes": 1000, "data": []}


@pytest.fixture(autouse=True)
def home(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty BONE_HOME; the data of the test may be read."""
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    monkeypatch.setenv("BONE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BONE_ROOTS", str(tmp_path))
    st.cache_resource.clear()
    yield tmp_path / "home"
    st.cache_resource.clear()


def text(app: AppTest) -> str:
    return "\n".join(str(e.proto.body) for e in app.get("html"))


def page(name: str, view: str = "") -> AppTest:
    app = AppTest.from_file(PAGES[name], default_timeout=180)
    if view:
        app.session_state["view"] = view
    app.run()
    assert not app.exception
    assert "An unexpected error" not in text(app)
    return app


def made_up(home: Path, count: int, events: int) -> None:
    """Runs that were never trained: what their folders would hold."""
    phases = ["joint"] * (events // 2) + ["elbow"] * (events - events // 2)
    for n in range(count):
        folder = home / "runs" / f"20261128-1130{n:02d}-made-up"
        folder.mkdir(parents=True)
        Job(f"made up {n}", SETTINGS, created=1e9 + n).write(folder)
        (folder / "networks.pt").touch()
        (folder / "status.json").write_text(json.dumps({"state": "finished", "progress": 1.0}))
        lines = [
            {"phase": p, "seen": 20 * k, "rate": 1e-3, "loss": 1 / (k + 1), "score": 0.7,
             "best": 0.7, "elbow": 0.6 + k / 1000, "train_elbow": 0.7, "body_part": 0.9,
             "time": 1e9 + k}
            for k, p in enumerate(phases)
        ]  # fmt: skip
        (folder / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))


def evaluated(home: Path) -> Path:
    """A run with an evaluation of which every figure can be counted."""
    folder = home / "runs" / "20261128-113000-scored"
    rows = scored.rows()
    about = {"release": "made-1", "release_sha256": "ab" * 32, "split": "test", "draws": 20,
             "split_sha256": "cd" * 32, "device": "a CPU"}  # fmt: skip
    about["confusion"] = figures.confusion(rows)
    records.write(figures.figures(rows, scored.cascade(), draws=20), folder / "test", about)
    rows.to_csv(folder / "test" / "scores.csv", index=False)
    Job("scored", SETTINGS).write(folder)
    return folder / "test"


def test_empty_states_say_what_to_do() -> None:
    assert "No run yet" in text(page("training"))
    assert "needs a data set" in text(page("training", "New run"))
    assert "Nothing has been measured yet" in text(page("metrics"))


@pytest.mark.stress
def test_the_pages_draw_in_under_a_second_with_fifty_runs_of_two_hundred_events(home: Path) -> None:
    made_up(home, 50, 200)
    for view in ("Runs", "Compare"):
        app = page("training", view)
        times = []
        for _ in range(5):  # of this process: others run beside it
            started = time.process_time()
            app.run()
            times.append(time.process_time() - started)
        assert min(times) < 1.0, times
        assert len(app.get("plotly_chart")) == (4 if view == "Runs" else 1)
    assert len(app.multiselect[0].options) == 50


def test_buttons_follow_the_truth_on_the_disk(home: Path) -> None:
    """Every tab reads the state from the run's folder, so none lacks a button after reopening."""
    made_up(home, 1, 4)
    folder = next((home / "runs").iterdir())
    (folder / "networks.pt").unlink()

    def labels(status: dict[str, object], **changed: object) -> set[str]:
        (folder / "status.json").write_text(json.dumps(status))
        Job("made up", SETTINGS, **changed).write(folder)
        return {b.label for b in page("training").button} - {"Save"}

    running = {"state": "running", "phase": "joint", "seen": 40, "speed": 10.0}
    assert labels(running) == {"Resume"}  # its process is gone: interrupted
    Process.of(__import__("os").getpid()).write(folder)
    assert labels(running) == {"Pause", "Cancel"}
    assert labels(running, wanted="pause") == {"Cancel"}
    (folder / "process.json").unlink()
    assert labels({"state": "paused"}, wanted="pause") == {"Resume"}
    assert labels({"state": "failed", "reason": "The loss is nan."}) == {"Resume"}
    assert "The loss is nan." in text(page("training"))
    (folder / "networks.pt").touch()
    assert labels({"state": "finished"}) == {"Evaluate on validation", "Evaluate on test"}


def test_time_left_is_counted_over_all_phases(tmp_path: Path) -> None:
    status = {"state": "running", "phase": "joint", "seen": 1000, "speed": 10.0}
    record = Record(tmp_path, Job("x", SETTINGS), status, None, True)
    assert record.state is State.RUNNING and record.seen == 1000 and record.passes == 9000
    assert _runs.time_left(record) == pytest.approx(300 + 5000 / 25)
    late = Record(
        tmp_path, Job("x", SETTINGS), {**status, "phase": "hand", "seen": 500}, None, True
    )
    assert late.seen == 4000 + 2000 + 1000 + 500
    assert _runs.time_left(late) == pytest.approx(150)


def test_the_list_of_runs_has_its_times_in_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path, Job("a", SETTINGS, created=0.0), {}, None, False)
    with monkeypatch.context() as abroad:
        abroad.setenv("TZ", "JST-9")
        time.tzset()
        row = _runs._row(record)
    time.tzset()
    assert row["Started (UTC)"] == "1970-01-01 00:00"


def test_a_data_set_is_registered_only_from_an_allowed_folder(home: Path, tmp_path: Path) -> None:
    data = tiny.write(tmp_path / "data", each=2)
    app = page("training", "Data sets")
    app.text_input[0].set_value("drawn")
    app.selectbox[0].select("manifest")
    app.text_input[1].set_value("/etc/passwd")
    app.button[0].click().run()
    assert "not inside a folder that may be read" in text(app)
    app.text_input[1].set_value(str(data))
    app.button[0].click().run()
    [found] = DataSets(home, [tmp_path]).all()
    assert found.specification == f"manifest:{data}"
    app = page("training", "New run")
    assert "No patient is in two splits" in text(app)
    assert [b.disabled for b in app.button if b.label == "Start"] == [False]


def test_corrections_of_the_worklist_become_a_data_set(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = "id,source,part\n"
    store = SimpleNamespace(studies=list, pictures=None, audit=lambda *_, **__: None)
    monkeypatch.setattr(_audit, "store", lambda: store)
    monkeypatch.setattr(export, "to_manifest", lambda records, pictures: listed)
    app = press(page("training", "Data sets"), "Register the worklist")
    assert "No study on the worklist has a decision" in text(app)
    listed += "a,reviewed,hand\n"
    press(app, "Register the worklist")
    [first] = DataSets(home, []).all()
    listed += "b,reviewed,elbow\n"
    for _ in range(2):  # again, after more decisions, replaces it
        press(app, "Register the worklist")
    [found] = DataSets(home, []).all()
    assert found.name == first.name == "corrections"
    assert datasets.overview([found]).pictures == 2
    assert datasets.overview([first]).pictures == 1  # a run that was made of it finds it as it was


def test_leaks_and_gaps_are_shown_before_a_start(home: Path, tmp_path: Path) -> None:
    data = tiny.write(tmp_path / "data", each=2)
    rows = pd.read_csv(data)
    rows.loc[rows.split == "val", "group"] = "one"
    rows.loc[rows.id == "train_elbow_0_0", "group"] = "one"
    rows[~rows.id.str.startswith("val_hand_1")].to_csv(data, index=False)
    DataSets(home, [tmp_path]).add("leaky", "manifest", str(data))
    app = page("training", "New run")
    assert "1 patients have pictures in more than one split" in text(app)
    assert "The split val lacks positives or negatives of: hand" in text(app)
    assert [b.disabled for b in app.button if b.label == "Start"] == [True]


def test_one_part_is_fine_tuned_on_corrections_of_that_part_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part is asked for, size and cut are the champion's, other parts need no pictures."""
    data = tiny.write(tmp_path / "data", each=2)
    rows = pd.read_csv(data)
    rows[rows.part == "hand"].to_csv(data, index=False)
    DataSets(home, [tmp_path]).add("corrected", "manifest", str(data))
    monkeypatch.setattr(Queue, "_start", lambda self, record, lock: None)
    cut = Preprocessing(size=96, focus=True)
    monkeypatch.setattr(_configure, "_champion_preprocessing", lambda: cut)
    app = page("training", "New run")
    assert "lacks positives or negatives of: elbow, shoulder" in text(app)
    preset = next(s for s in app.selectbox if s.label == "Preset")
    one = next(p for p in presets.PRESETS if p.changed.get("only"))
    preset.select(one.name).run()
    assert "lacks positives or negatives of: elbow" in text(app)
    next(s for s in app.selectbox if s.label == "Branches to train").select("hand").run()
    assert "lacks" not in text(app)
    press(app, "Start")
    [record] = Queue(home / "runs").records()
    wanted = record.job.settings
    assert (wanted["init"], wanted["only"], wanted["size"]) == ("champion", "hand", 96)
    assert wanted["focus"] == 1
    assert record.passes == wanted["branch_passes"]


def test_a_part_that_stage_1_knows_by_name_can_be_trained(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only those that have a fracture model; never what is no part."""
    weights = tmp_path / "weights"
    random_release(weights, size=96)
    manifest = json.loads((weights / "manifest.json").read_text())
    first = manifest["releases"][0]["stages"]["body_part"]
    first["classes"] = ["elbow", "hand", "shoulder", "knee", "forearm", "stranger", "other"]
    (weights / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    data = tiny.write(tmp_path / "data")
    DataSets(home, [tmp_path]).add("mine", "manifest", str(data))
    app = page("training", "New run")
    offered = next(s for s in app.selectbox if s.label == "Branches to train").options
    assert offered == [*("all", "body part", "elbow", "hand", "shoulder", "forearm", "knee")]


def test_what_is_started_is_what_the_fields_hold_at_the_click(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that was typed just before the click, which no script has drawn, is not lost; one
    that is out of its range starts nothing."""
    DataSets(home, [tmp_path]).add("drawn", "manifest", str(tiny.write(tmp_path / "d", each=2)))
    monkeypatch.setattr(Queue, "_start", lambda self, record, lock: None)
    app, key = page("training", "New run"), presets.PRESETS[0].name
    app.number_input(key=f"{key}-batch").set_value(4)
    app.number_input(key=f"{key}-size").set_value(64)
    app.text_input(key=f"name-{key}").set_value("in haste")
    press(app, "Start")
    [record] = Queue(home / "runs").records()
    wanted = record.job.settings
    assert (record.job.name, wanted["batch"], wanted["size"]) == ("in haste", 4, 64)
    assert wanted["joint_passes"] == presets.PRESETS[0].changed["joint_passes"]
    app = page("training", "New run")
    app.number_input(key=f"{key}-joint_passes").set_value(0)
    app.number_input(key=f"{key}-branch_passes").set_value(0)
    app.number_input(key=f"{key}-body_part_passes").set_value(0)
    press(app, "Start")
    assert "At least one phase needs pictures" in text(app)
    assert len(Queue(home / "runs").records()) == 1


def test_a_run_of_the_page_starts_from_no_file_elsewhere(tmp_path: Path, weights: Path) -> None:
    made = {"data": [], "init": str(tmp_path / "a.pt")}
    (tmp_path / "a.pt").touch()
    assert _configure._refusals(made) == []
    [said] = _configure._refusals(made | {"init": str(weights / "manifest.json")})
    assert "not inside a folder that may be read here" in said


def test_two_clicks_on_start_are_one_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DataSets(home, [tmp_path]).add("drawn", "manifest", str(tiny.write(tmp_path / "d", each=2)))
    monkeypatch.setattr(Queue, "_start", lambda self, record, lock: None)  # it stays in the queue
    apps = [page("training", "New run") for _ in range(2)]
    for app in apps:
        next(b for b in app.button if b.label == "Start").click().run()
        assert "waits in the queue" in text(app)
    [record] = Queue(home / "runs").records()
    assert record.state is State.QUEUED and record.job.settings["size"] == 128


def test_presets_change_known_settings_and_stay_in_range() -> None:
    from dataclasses import asdict, fields

    from training.fit import Settings

    for preset in presets.PRESETS:
        settings = asdict(Settings(data=(), out="")) | preset.changed
        assert presets.problems(settings) == []
        assert set(preset.changed) <= {f.name for f in fields(Settings)}
    numbers = {f.name for f in fields(Settings) if isinstance(f.default, int | float)}
    numbers -= {"dense", "window"}  # of a local network, which the page does not train
    assert numbers == presets.LIMITS.keys() and all(one.about for one in presets.LIMITS.values())
    assert presets.problems({"batch": 1}) == [
        "Batch size must lie between 2 and 4096 pictures, not 1."
    ]


def test_a_few_timed_steps_tell_the_time() -> None:
    speeds = estimate.measure({"size": 32, "batch": 2, "device": "cpu", "data": ["x"]})
    assert speeds.branch > 0 and speeds.joint > 0
    made = estimate.Speeds(10.0, 20.0)
    assert made.seconds(SETTINGS) == pytest.approx(400 + 100 + 150)


def test_figures_on_the_page_equal_metrics_json_to_the_last_digit(home: Path) -> None:
    folder = evaluated(home)
    app = page("metrics")
    choice = next(s for s in app.selectbox if s.label == "Release or run")
    choice.select("Run 20261128-113000-scored, test").run()
    shown = app.dataframe[-1].value
    written = json.loads((folder / "metrics.json").read_text())["figures"]
    assert len(shown) == len(written) > 10
    raw = (folder / "metrics.json").read_text()
    for row, figure in zip(shown.to_dict("records"), written):
        for key in ("value", "low", "high", "n"):
            if figure[key] is None:
                assert row[key] == ""
            else:
                assert float(row[key]) == figure[key] and f'"{key}": {row[key]}' in raw
        assert row["metric"] == figure["metric"]


def test_the_threshold_view_counts_what_it_names() -> None:
    def positives_alone() -> None:
        from core.types import BodyPart
        from pages import _figures
        from tests import scored

        rows = scored.rows()
        rows = rows[rows.part == "elbow"].assign(positive=1.0, study="one")
        _figures._explore(rows, scored.release(), BodyPart.ELBOW, "elbow-some run")

    app = AppTest.from_function(positives_alone, default_timeout=60).run()
    assert not app.exception
    assert app.slider(key="prevalence-elbow-some run").value == 99.9  # 100 is no prevalence
    count = len(scored.rows().query("part == 'elbow'"))
    assert f"Measured on {count} images of this split, 100&nbsp;% of them positive" in text(app)
    app.button_group("level-elbow-some run").set_value("study").run()
    patients = scored.rows().query("part == 'elbow'").groupby(["source", "patient"]).ngroups
    assert f"Measured on {patients} studies of this split" in text(app)
    assert "side of the body is not recorded" in text(app)


def test_the_threshold_view_has_the_studies_of_the_figures() -> None:
    def explore() -> None:
        from core.types import BodyPart
        from pages import _figures
        from tests import scored

        release, rows = scored.torn()
        _figures._explore(rows, release, BodyPart.ELBOW, "elbow")

    app = AppTest.from_function(explore, default_timeout=60).run()
    app.button_group("level-elbow").set_value("study").run()
    assert not app.exception
    release, rows = scored.torn()
    shown = text(app)

    def sensitivity(studies: pd.DataFrame) -> str:
        found = threshold.outcome(studies.positive, studies.probability, 0.5, 0.5).sensitivity
        value = f"<div class='value'>{_reading.estimate(found.share)}</div>"
        return f"Sensitivity</div>{value}<div class='soft'>{found.k} of {found.n}</div>"

    assert sensitivity(by_study(rows, points_of(release))) in shown
    assert sensitivity(by_study(rows)) not in shown


def test_body_parts_and_heatmaps_have_their_interval_in_one_cell(home: Path) -> None:
    found = [
        {"stage": "heatmap", "part": part, "source": "drawn", "level": "image", "metric": metric,
         "value": 0.56249999, "low": None if part == "Grad-CAM" else 0.4554, "high": 0.7, "n": 96}
        for part in ("Eigen-CAM", "Grad-CAM") for metric in ("pointing game", "energy inside")
    ]  # fmt: skip
    table = _figures._by_method(report.all_figures(found))
    assert list(table) == ["Method", "Pointing game [95 %]", "Energy inside [95 %]", "Source", "n"]
    assert table.iloc[0].tolist() == ["Eigen-CAM", *["0.562 [0.455, 0.700]"] * 2, "drawn", "96"]
    assert table.iloc[1, 2] == "0.562 (no interval)"


def test_labels_by_finding_are_in_the_order_of_urgency() -> None:
    said = [*["suspected"] * 4, "doubtful", "not_suspected", "not_suspected"]
    table = _figures.by_finding(scored.rows().assign(finding=said))
    assert list(table) == ["Label", "Suspected", "Doubtful", "Not suspected", "n"]
    assert table.n.tolist() == [3, 4] and table.n.equals(table.iloc[:, 1:4].sum(axis=1))


def test_every_curve_is_also_a_table() -> None:
    rows = scored.rows()
    points = scored.release().stages["elbow"].operating_points
    for figure in plots.of_part(rows, scored.release(), BodyPart.ELBOW).values():
        assert len(_plot.numbers(figure)) > 4
    table = _plot.numbers(plots.histogram(rows, points))
    assert sorted(table["probability"]) == sorted(rows.probability)
    matrix = _plot.numbers(plots.confusion(figures.confusion(rows)))
    assert matrix.elbow.tolist() == [5]


def test_rows_of_a_release_name_a_picture_for_those_who_have_it(home: Path) -> None:
    """Its own scores.csv has codes for names: the picture is found where the data set is."""
    rows = measured.coded(scored.rows())
    assert measured.coded(rows).id.equals(rows.id)
    for column in ("patient", "study"):  # numbers, which nobody finds again by trying
        before, after = scored.rows()[column], rows[column]
        assert set(after.dropna()) == {str(n + 1) for n in range(before.nunique())}
        assert before.isna().equals(after.isna())
        assert len({*zip(before.dropna(), after.dropna())}) == before.nunique()
    assert rows.id.str.startswith("#").all() and rows.id.nunique() == scored.rows().id.nunique()
    known = _mistakes.named({("mura", "7"): "/data/7.png"})
    assert known["mura", "7"] == known["mura", measured.code("mura", "7")] == "/data/7.png"
    both = compare.differences(rows, measured.coded(scored.rows()), draws=5)
    assert both and all(d.difference == 0 for d in both)


def test_worst_mistakes_come_first() -> None:
    found = _mistakes.worst(scored.rows(), 3)
    assert found.id.tolist() == ["6", "2", "5"] and found.error.tolist() == pytest.approx(
        [0.8, 0.7, 0.7]
    )


def test_what_is_not_defined_is_empty_and_not_zero() -> None:
    assert _figures.exact(None) == "" and _figures.exact(0.1 + 0.2) == "0.30000000000000004"
    assert not math.isnan(float(_figures.exact(0.5)))


# --- the page Releases, and what a session notices of it -----------------------------------------


@pytest.fixture
def shelf(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder of two releases that share their files."""
    folder = linked(weights, tmp_path / "weights")
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["releases"].append({**manifest["releases"][0], "id": "second"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("BONE_WEIGHTS", str(folder))
    monkeypatch.setattr(catalogue, "load", lambda weights, release: None)
    return folder


def press(app: AppTest, label: str) -> AppTest:
    next(b for b in app.button if b.label.startswith(label)).click().run()
    assert not app.exception and "An unexpected error" not in text(app)
    return app


def change(app: AppTest, event: str, why: str = "") -> AppTest:
    """Use another release, or go back, with a reason; event: as in the audit, and which."""
    app.text_input(key=f"{event}-why").set_value(why).run()
    app.button(event).click().run()
    assert not app.exception
    return app


USE, BACK = "release.promoted-second", "release.rolled_back-random"


def champion(shelf: Path) -> str:
    return json.loads((shelf / "manifest.json").read_text())["aliases"]["champion"]


def test_promotion_and_roll_back_leave_who_and_why_in_the_audit(shelf: Path) -> None:
    app = page("releases")
    choice = next(s for s in app.selectbox if s.label == "Release")
    assert choice.value == "random"
    choice.select("second").run()
    change(app, USE)
    assert "Please give a reason first" in text(app) and champion(shelf) == "random"
    change(app, USE, "Better on elbows")
    assert champion(shelf) == "second" and "second is in use now" in text(app)
    change(app, BACK, "Worse on hands")
    assert champion(shelf) == "random"
    store = Store.open(Settings.from_environment())
    lines = [
        (a.event, a.actor, json.loads(a.facts))
        for a in store.audit_lines()
        if a.event.startswith("release.")
    ]
    assert [(e, f["release"], f["why"]) for e, _, f in lines] == [
        ("release.promoted", "second", "Better on elbows"),
        ("release.rolled_back", "random", "Worse on hands"),
    ]
    assert {actor for _, actor, _ in lines} == {"local"}  # there is no login
    assert store.verify_audit().problems == ()
    store.close()


def test_the_second_half_of_a_double_click_asks_for_nothing(shelf: Path, monkeypatch) -> None:
    monkeypatch.setattr(_shelf.st, "session_state", {"why": ""})  # its first took the reason along
    _shelf._do("release.promoted", shelf, "random", "why")
    assert champion(shelf) == "random"
    with pytest.raises(ReleaseRefused, match="reason first"):
        _shelf._do("release.promoted", shelf, "second", "why")


def test_roll_back_returns_to_what_its_button_names_or_is_written_down_as_not_done(
    shelf: Path,
) -> None:
    catalogue.promote(shelf, "second")
    app = page("releases")
    app.text_input(key=f"{BACK}-why").set_value("Worse on hands").run()
    catalogue.promote(shelf, "random")  # meanwhile, in another window: "previous" is "second" now
    app.button(BACK).click().run()
    assert champion(shelf) == "random" and "in use already" in text(app)
    store = Store.open(Settings.from_environment())
    events = [a.event for a in store.audit_lines() if a.event.startswith("release.")]
    store.close()
    assert events == ["release.rolled_back", "release.not_changed"]


def test_a_damaged_release_is_shown_and_cannot_be_promoted(shelf: Path) -> None:
    manifest = json.loads((shelf / "manifest.json").read_text())
    manifest["releases"][1]["files"][0]["sha256"] = "00" * 32
    (shelf / "manifest.json").write_text(json.dumps(manifest))
    app = page("releases")
    states = app.dataframe[0].value.set_index("Release").State
    assert states["random"] == "intact" and "is damaged" in states["second"]
    next(s for s in app.selectbox if s.label == "Release").select("second").run()
    assert app.button(USE).disabled


def test_an_audit_that_cannot_be_written_stops_the_promotion(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreUnavailable("The database does not answer.")

    monkeypatch.setattr(Store, "audit", broken)
    app = page("releases")
    next(s for s in app.selectbox if s.label == "Release").select("second").run()
    change(app, USE, "Better")
    assert "The database does not answer" in text(app) and champion(shelf) == "random"


def test_a_shelf_that_may_not_be_written_keeps_its_champion_and_says_so(shelf: Path) -> None:
    app = page("releases")
    next(s for s in app.selectbox if s.label == "Release").select("second").run()
    with not_permitted(shelf):
        change(app, USE, "Better")
        assert "could not be read or written (Permission denied)" in text(app)
        assert champion(shelf) == "random"
    change(app, USE, "Better")
    assert champion(shelf) == "second"


def test_a_session_keeps_its_release_and_is_told_of_the_new_one(shelf: Path) -> None:
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=180).run()
    session = app.session_state[_cascade.PINNED]
    assert session == "random"
    _cascade._shared("random", Settings.from_environment()).start().exception()
    app.run()
    assert "Release random" in text(app)
    catalogue.promote(shelf, "second")
    app.run()
    assert "Release random" in text(app)
    assert "Release second is in use now" in text(app)
    new = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=180).run()
    assert new.session_state[_cascade.PINNED] == "second"
    press(app, "Use the new release")
    assert app.session_state[_cascade.PINNED] == "second"
    assert "in use now" not in text(app)


def test_a_data_set_whose_folder_is_allowed_no_more_is_not_offered(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays on the list, to be forgotten or to be read again later."""
    DataSets(home, [tmp_path]).add("drawn", "manifest", str(tiny.write(tmp_path / "d", each=2)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("BONE_ROOTS", str(elsewhere))
    assert DataSets(home, [elsewhere]).all() == []
    assert "A run needs a data set" in text(page("training", "New run"))
    app = page("training", "Data sets")
    assert any("drawn" in t.value and "not in a folder" in t.value for t in app.text)
    with pytest.raises(DataInvalid, match="a name that is not in use"):
        DataSets(home, [elsewhere]).add("drawn", "folder", str(elsewhere))
    DataSets(home, [elsewhere]).remove("drawn")
    assert DataSets(home, [tmp_path]).registered() == []


def test_no_picture_stands_beside_a_mistake_where_two_may_be_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two folders of one name, each with its own elbow/normal/1.png."""
    one, two, three = (("clinic", k) for k in "123")
    listed = {
        "folder:/a/clinic": {one: "/a/1.png", two: "/a/2.png"},
        "folder:/b/clinic": {one: "/b/1.png", three: "/b/3.png"},
        "manifest:/a/again.csv": {two: "/a/2.png", one: "/a/1.png"},
    }
    monkeypatch.setattr(_mistakes, "_listed", listed.__getitem__)
    found = _mistakes._together([*listed])
    assert found == {one: _mistakes.AMBIGUOUS, two: "/a/2.png", three: "/b/3.png"}
    sets = [datasets.DataSet(name, name) for name in listed]
    monkeypatch.setattr(_configure, "registered", lambda: SimpleNamespace(all=lambda: sets))
    assert _mistakes._paths(measured.Measured("x", {}))[one] == _mistakes.AMBIGUOUS
