"""Figures by image and by study, the memoriser and the confusion matrix, counted by hand."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from core.origin import Origin
from core.study import combine
from core.types import (
    BodyPart,
    BodyPartPrediction,
    Finding,
    FracturePrediction,
    ImageResult,
)
from tests import scored
from tests.test_data import write_mura
from training import card, evaluation, memoriser, report
from training.__main__ import main
from training.by_study import by_study, points_of
from training.data import read_all
from training.figures import confusion
from training.figures import figures as figures_of
from training.jobs import work
from training.jobs.record import Job
from training.records import table as text_of
from training.records import write

TRAIN = pd.DataFrame(
    [
        ("elbow", "a", 1.0, "drawn"),
        ("elbow", "a", 1.0, "drawn"),
        ("elbow", "a", 0.0, "drawn"),
        ("elbow", "z", 0.0, "drawn"),
        ("elbow", "z", 0.0, "drawn"),
        ("elbow", "b", math.nan, "drawn"),
        ("hand", "c", 1.0, "drawn"),
        ("elbow", "y", 1.0, "simulated"),
    ],
    columns=["part", "patient", "positive", "source"],
)


def figures(rows: pd.DataFrame) -> dict[tuple[str, ...], float]:
    records = figures_of(rows, scored.cascade(), draws=20)
    keys = ("stage", "part", "source", "level", "metric")
    found = {tuple(r[k] for k in keys): r["value"] for r in records}
    assert len(found) == len(records)
    return found


def test_by_study_is_what_the_program_says_of_one():
    studies = by_study(scored.rows()).set_index("study")
    assert studies.probability.to_dict() == pytest.approx(
        {"s1": 0.9, "s2": 0.4, "picture 5": 0.7, "picture 6": 0.2, "s3": 0.8}
    )
    assert studies.positive.tolist() == [1, 0, 0, 1, 1]
    assert studies.views.tolist() == [2, 2, 1, 1, 1]
    # a refused view does not count, and what is taken for a hand has no answer of its own
    assert studies.said.tolist() == ["elbow", "elbow", "elbow", "hand", "elbow"]
    assert studies.patient.tolist() == list("abcde")
    rows = scored.rows()
    rows.loc[0, "patient"] = None  # as in a table from elsewhere
    assert by_study(rows).views.sum() == len(rows) - 1


def test_by_study_is_combine(cascade):
    """The very rule of the app: refused views, other parts, the graver part, ties by sureness."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "source": "drawn",
            "id": [str(i) for i in range(400)],
            "study": [str(i // 4) for i in range(400)],
            "patient": "one",
            "part": "elbow",
            "positive": 1.0,
            "probability": rng.random(400),
            "said": rng.choice(["elbow", "elbow", "hand", "rejected"], 400),
            "shown": rng.random(400),
            "sureness": rng.uniform(0.5, 1, 400),
            "side": rng.choice(["L", "R", ""], 400),
        }
    )
    rows.loc[rows.said == "elbow", "shown"] = rows.probability
    release = cascade.release
    points = points_of(release)
    studies = by_study(rows, points).set_index("study")
    assert {*studies.said} >= {"elbow", "hand"}
    for study, views in rows.groupby("study"):
        results = []
        for v in views.itertuples():
            named = (
                BodyPartPrediction(BodyPart(v.said), v.sureness, {})
                if v.said != "rejected"
                else None
            )
            fracture = FracturePrediction(v.shown, Finding.DOUBTFUL) if named else None
            reason, side = (None, Origin(v.side)) if named else ("It was refused.", Origin(v.side))
            results.append(
                ImageResult(v.id, None, reason, "", "", 1.0, named, fracture, origin=side)
            )
        together = combine(study, results, release)
        assert studies.said[study] == (together.body_part or "rejected")
        if together.body_part == "elbow":
            assert studies.probability[study] == pytest.approx(together.probability)
    missing = ["sureness", "side", "shown"]
    old = by_study(rows.drop(columns=missing))  # as older releases have them
    assert len(old) == len(studies) and old.probability.between(0, 1).all()


def test_a_part_that_is_not_installed_keeps_its_points(cascade):
    """A half decided for the views that the rows say are of it."""
    release = cascade.release
    hand = release.raw["stages"]["hand"] | {"optional": True}
    entry = release.raw | {"stages": release.raw["stages"] | {"hand": hand}}
    less = release.from_json(entry, release.mode, {"hand": (hand["branch"],)})
    assert "hand" not in less.parts
    assert points_of(less) == points_of(release)


def test_one_study_name_in_two_sources_or_parts_is_not_one_study():
    rows = pd.concat([scored.rows(), scored.rows("other"), scored.rows().assign(part="hand")])
    assert len(by_study(rows)) == 15


def test_figures_by_image_and_by_study():
    found = figures(scored.rows())
    image, study = (("fracture", "elbow", "all", level) for level in ("image", "study"))
    assert found[*image, "accuracy (balanced)"] == pytest.approx(3 / 7)
    assert found[*image, "auroc"] == pytest.approx(7.5 / 12)  # one tie
    assert found[*study, "accuracy (balanced)"] == pytest.approx(3 / 5)
    assert found[*study, "sensitivity (balanced)"] == pytest.approx(2 / 3)
    assert found[*study, "specificity (balanced)"] == pytest.approx(1 / 2)
    # agreement 0.6; by chance 0.6 * 0.6 + 0.4 * 0.4 = 0.52
    assert found[*study, "kappa (balanced)"] == pytest.approx(0.08 / 0.48)
    assert found[*study, "auroc"] == pytest.approx(4 / 6)
    assert found[*study, "accuracy of the majority class"] == pytest.approx(3 / 5)
    # pictures 2 and 6, and of the studies the last one's alone, were not taken for elbows
    assert found["end_to_end", "all", "all", "image", "accuracy (balanced)"] == pytest.approx(3 / 7)
    assert found["end_to_end", "all", "all", "study", "accuracy (balanced)"] == pytest.approx(3 / 5)
    assert found["fracture", "elbow", "drawn", "study", "auroc"] == found[*study, "auroc"]


def test_without_studies_there_is_no_study_level():
    found = figures(scored.rows().assign(study=None))
    assert {level for _, _, _, level, _ in found} == {"image"}


def test_simulated_studies_stay_out_of_the_figures_on_real_ones():
    both = pd.concat([scored.rows(), scored.rows("simulated").assign(probability=0.5)])
    alone, mixed = figures(scored.rows()), figures(both)
    assert {k: v for k, v in mixed.items() if k[2] != "simulated"} == pytest.approx(alone)
    assert mixed["fracture", "elbow", "simulated", "study", "auroc"] == 0.5
    assert mixed["end_to_end", "all", "simulated", "study", "accuracy (balanced)"] == 2 / 5


def test_the_memoriser_recalls_patients_of_the_same_part_only():
    rows = scored.rows()
    assert memoriser.recall(rows, TRAIN).tolist() == pytest.approx([2 / 3, 2 / 3, 0, 0, 0, 0, 0])
    assert memoriser.recall(rows.assign(source="simulated"), TRAIN).tolist()[2:] == [1.0] * 5
    nothing = memoriser.recall(rows, TRAIN[TRAIN.part == "hand"])
    assert nothing.isna().all()


def test_figures_of_the_memoriser_by_hand():
    rows = scored.rows()
    assert not any(k[0] == "memoriser" for k in figures(rows))
    found = figures(rows.assign(recalled=memoriser.recall(rows, TRAIN)))
    image, study = (("memoriser", "elbow", "all", level) for level in ("image", "study"))
    assert found[*image, "accuracy"] == pytest.approx(5 / 7)
    assert found[*image, "auroc"] == pytest.approx(9 / 12)
    assert found[*study, "accuracy"] == pytest.approx(3 / 5)
    assert found[*study, "auroc"] == pytest.approx((2 + 4 / 2) / 6)
    # agreement 0.6; by chance 0.6 * 0.2 + 0.4 * 0.8 = 0.44
    assert found[*study, "kappa"] == pytest.approx(0.16 / 0.56)


def test_a_memoriser_that_learned_nothing_has_no_figures():
    found = figures(scored.rows().assign(recalled=math.nan))
    assert not any(k[0] == "memoriser" for k in found)


def test_confusion_counts_body_part_by_what_was_said():
    legs = scored.rows().head(3).assign(part="leg", said=["rejected", "rejected", "hand"])
    left_out = [scored.rows().assign(part="mixed"), scored.rows("simulated")]
    matrix = confusion(pd.concat([legs, scored.rows(), *left_out]))
    assert matrix == {
        "part": ["elbow", "leg"],
        "said": ["elbow", "hand", "rejected"],
        "counts": [[5, 1, 1], [0, 1, 2]],
    }
    assert json.loads(json.dumps(matrix)) == matrix


def test_the_model_card_tells_images_from_studies_and_reads_older_figures(tmp_path):
    release = scored.release()
    records = figures_of(scored.rows(), scored.cascade(), draws=20)
    path = write(records, tmp_path, {"device": "a CPU", "draws": 20})
    release.metrics.update(json.loads(path.read_text()))
    text = card.model_card(release)
    assert "| fracture | elbow | all | kappa (balanced) | study | 0.167 |" in text
    assert (
        "| fracture | elbow | all | auroc | image | 0.625 | no interval | 7, 4 positive |" in text
    )
    assert "(n=7), 4 positive" in text_of(records)
    counted = json.loads(path.read_text())["figures"]
    assert {r.get("positives") for r in counted if r["stage"] == "fracture"} >= {4, 3}
    assert not any("positives" in r for r in counted if r["stage"] == "body_part")
    for figure in release.metrics["figures"]:
        del figure["level"]
    assert "| study |" not in card.model_card(release)


def test_mura_as_it_is_downloaded_is_scored_by_study(weights, tmp_path, capsys):
    root, out = write_mura(tmp_path, 60), tmp_path / "out"
    where = ["--data", f"mura:{root}", "--weights", str(weights), "--device", "cpu"]
    assert main(["evaluate", *where, "--draws", "10", "--out", str(out)]) == 0
    assert "study" in capsys.readouterr().out
    measured = json.loads((out / "metrics.json").read_text())
    n = {
        (f["part"], f["level"]): f["n"]
        for f in measured["figures"]
        if f["stage"] == "fracture" and f["source"] == "mura" and f["metric"] == "auroc"
    }
    val = read_all([f"mura:{root}"]).query("split == 'val'")
    for part in ("elbow", "hand", "shoulder"):
        here = val[val.part == part]
        assert (n[part, "image"], n[part, "study"]) == (len(here), here.study.nunique())
    # forearm and humerus have no branch: they are counted by what stage 1 said, and no more
    assert {"forearm", "humerus"} < set(measured["confusion"]["part"])
    assert not {f["part"] for f in measured["figures"]} & {"forearm", "humerus"}
    assert "by study" in (out / "report.html").read_text(encoding="utf-8")
    assert "path" not in pd.read_csv(out / "scores.csv")


def test_others_that_got_a_name_are_counted_by_whether_it_is_right():
    others = scored.rows().assign(part="lower_leg", positive=math.nan, probability=math.nan)
    others["looks_like"] = ["lower leg", "lower leg", "foot", "", "stranger", "lower leg", ""]
    found = figures(pd.concat([scored.rows(), others]))
    assert found["body_part", "other", "all", "image", "named right"] == pytest.approx(3 / 5)
    assert not [k for k in figures(scored.rows()) if k[-1] == "named right"]


def test_what_a_reader_is_asked_to_check_is_counted_of_right_and_wrong():
    rows = scored.rows()  # one of seven is refused, one taken for a hand
    rows["sureness"] = [0.9, 0.5, 0.97, 0.97, 0.97, 0.6, 0.97]
    found = {k[-1]: v for k, v in figures(rows).items() if "asked to check" in k[-1]}
    assert found == pytest.approx(
        {"asked to check, of those right": 1 / 5, "asked to check, of those wrong": 1.0}
    )


def test_every_part_that_stage_1_knows_is_called_by_its_name_or_not():
    """With a model (elbow) what it was taken for, without (hand) what the refusal calls it."""
    elbows = pd.concat([scored.rows()] * 2, ignore_index=True)
    elbows["patient"] = [str(i) for i in range(len(elbows))]
    hands = elbows.iloc[:10].assign(part="hand", positive=math.nan, truth="other", said="rejected")
    hands["looks_like"] = ["hand"] * 7 + ["elbow", "", "stranger"]
    few = elbows.iloc[:3].assign(part="shoulder", truth="other", said="rejected")
    found = figures(pd.concat([elbows, hands, few], ignore_index=True))
    named = {k[1]: v for k, v in found.items() if k[-1] == "called by its name"}
    one = figures(pd.concat([elbows, hands.assign(patient="one")], ignore_index=True))
    assert ("body_part", "hand", "all", "image", "called by its name") not in one
    elbow = (elbows.said == "elbow").mean()
    assert named == pytest.approx({"elbow": elbow, "hand": 0.7, "all": (14 * elbow + 7) / 24})


def test_figures_by_view_and_by_metal_where_the_data_set_tells(monkeypatch):
    """Elbows from the side are right, those from the front wrong; metal is known of four."""
    monkeypatch.setattr("training.figures.FEWEST_PATIENTS", 2)
    rows = scored.rows().assign(
        view=["lateral", "frontal", "frontal", "lateral", "frontal", "frontal", "lateral"],
        hardware=[1.0, 0.0, 0.0, 0.0, math.nan, math.nan, math.nan],
    )
    found = figures(rows)
    kinds = {k[2] for k in found} - {"all", "drawn"}
    assert kinds == {"view lateral", "view frontal", "no metal in the picture"}
    assert "metal in the picture" not in kinds  # of one patient
    lateral, frontal = (("fracture", "elbow", f"view {v}", "image") for v in ("lateral", "frontal"))
    assert found[*lateral, "auroc"] == 1.0 and found[*frontal, "auroc"] == 0.0
    assert found[*lateral, "sensitivity (balanced)"] == 1.0
    assert found[*frontal, "specificity (balanced)"] == 0.0
    assert found["body_part", "elbow", "view frontal", "image", "accuracy"] == 0.5
    without = {k: v for k, v in found.items() if k[2] in ("all", "drawn")}
    assert without == pytest.approx(figures(scored.rows()), nan_ok=True)
    records = figures_of(rows, scored.cascade(), draws=20)
    table = report.by_kind(records).set_index(["Part", "Pictures"])
    assert table.loc[("elbow", "view lateral"), "n"] == "3"
    assert table.loc[("elbow", "view lateral"), "AUROC"] == "too few (2 positive)"
    assert report.by_kind(figures_of(scored.rows(), scored.cascade(), draws=20)).empty
    assert "By view and by metal" in report._by_kind(records)


def test_a_picture_of_the_word_other_is_no_supported_part():
    others = scored.rows().head(2).assign(part="other", truth="other", said=["rejected", "elbow"])
    both = pd.concat([scored.rows(), others])
    found = {(r["part"], r["metric"]): r for r in figures_of(both, scored.cascade(), draws=5)}
    assert found["all", "accuracy"]["n"] == len(scored.rows())
    assert ("other", "accuracy") not in found
    assert (found["other", "refused"]["value"], found["other", "refused"]["n"]) == (0.5, 2)
    assert confusion(both)["said"] == ["elbow", "hand", "rejected"]


def test_no_figures_stand_without_their_rows(tmp_path, monkeypatch):
    def full(*_):
        assert pd.read_csv(tmp_path / "scores.csv").id.astype(str).tolist() == [*rows.id]
        raise OSError("No space left")

    rows = scored.rows().assign(path="")
    (tmp_path / "metrics.json").write_text("{}")  # of an evaluation before
    monkeypatch.setattr(evaluation.records, "write", full)
    with pytest.raises(OSError, match="No space"):
        evaluation.Evaluation(scored.release(), rows, [], {}).write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


def test_a_run_of_the_page_is_evaluated_as_on_the_command_line(weights, tmp_path, monkeypatch):
    asked: list[evaluation.Settings] = []
    monkeypatch.setattr(evaluation, "run", lambda settings, tell: asked.append(settings))
    monkeypatch.setenv("BONE_DEVICE", "cuda")  # the run says which, and which release
    monkeypatch.setenv("BONE_RELEASE", "of the dashboard")
    run = tmp_path / "run"
    shutil.copytree(weights, run / "candidate")
    settings = {"data": ["folder:a", "folder:b"], "device": "cpu"}
    work._evaluate(run, Job("x", settings, task="evaluate:test"))
    words = ["--data", "folder:a", "--data", "folder:b", "--split", "test", "--device", "cpu"]
    where = ["--weights", str(run / "candidate"), "--out", str(run / "test")]
    assert main(["evaluate", *words, *where, "--release", "champion"]) == 0
    assert asked[0] == asked[1]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
