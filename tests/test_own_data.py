"""What people's own data sets are like: written by hand, of one site, of one class."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from core.registry import Registry
from pages import _shelf
from tests import scored
from training import catalogue, data, figures, provenance, records, terms
from training.__main__ import main
from training.by_study import by_study
from training.data import DataInvalid


def listed(folder: Path, text: str) -> pd.DataFrame:
    (folder / "own.csv").write_text(text)
    return data.read(f"manifest:{folder / 'own.csv'}")


def test_a_manifest_written_by_hand_is_understood(tmp_path):
    rows = listed(tmp_path, "id,source,part,file,positive\n1,1, Elbow ,a.png,1\n2,1,HAND,b.png,0\n")
    assert rows.part.tolist() == ["elbow", "hand"]
    assert rows.source.tolist() == ["1", "1"] and rows.patient.tolist() == ["1/1", "1/2"]


def test_a_part_is_called_as_a_release_can_name_it(tmp_path):
    """Of other names a whole run came to its end, and no release could be made of it."""
    rows = listed(tmp_path, "id,source,part,file\n1,a,Cervical Spine,a.png\n2,a,t-spine,b.png\n")
    assert rows.part.tolist() == ["cervical_spine", "t_spine"]
    assert rows.region.tolist() == ["cervical spine", "t-spine"]
    rows = listed(tmp_path, "id,source,part,file\n1,a,elbow,a.png\n2,a,Hüfte,b.png\n")
    assert rows.part.tolist() == ["elbow", "hüfte"]
    few, enough = [*rows.part, *["hüfte"] * 8], [*rows.part, *["hüfte"] * 9]
    assert data.kinds_of(few) == (*data.PARTS, "other")  # nobody trains it
    with pytest.raises(DataInvalid, match="'hüfte' is no name of a body part"):
        data.kinds_of(enough)
    (tmp_path / "site" / "hand + wrist" / "normal").mkdir(parents=True)
    (tmp_path / "site" / "hand + wrist" / "normal" / "a.png").write_bytes(b"x")
    assert data.read(f"folder:{tmp_path / 'site'}").part.tolist() == ["hand+wrist"]


@pytest.mark.parametrize(
    ("boxes", "taken"),
    [
        ("0.1 0.2 0.3 0.4;0 0 1 1", True),
        ("-0.004 0.2 1.004 0.4", True),
        ("0.5 0.5 0.5 0.5", True),  # a reader's mark may be a point
        ("412 380 471 433", False),
        ("0.3 0.2 0.1 0.4", False),
        ("0.1 0.2 0.3", False),
        ("[[0.1 0.2 0.3 0.4]]", False),
        ("nan 0.2 0.3 0.4", False),
    ],
)
def test_boxes_are_fractions_of_the_picture(tmp_path, boxes, taken):
    """Those in pixels were taken, and lay nowhere; others ended a run with a traceback."""
    text = f"id,source,part,file,boxes\n1,a,elbow,a.png,\n2,a,elbow,b.png,{boxes}\n"
    if taken:
        assert listed(tmp_path, text).boxes[1] == boxes
    else:
        with pytest.raises(DataInvalid, match="the boxes of 2 are not"):
            listed(tmp_path, text)


def test_a_patient_may_be_called_na(tmp_path):
    """Its pictures became as many patients, in all splits."""
    names = ["NA", "null", "None", "nan", "", " "]
    lines = [f"{n}{k},s,elbow,x.png,{name},NA\n" for n, name in enumerate(names) for k in "ab"]
    rows = listed(tmp_path, "id,source,part,file,group,positive\n" + "".join(lines))
    assert rows.patient.tolist()[:8:2] == ["s/NA", "s/null", "s/None", "s/nan"]
    assert rows.patient.nunique() == 4 + 4  # one whom nothing names is one a picture
    assert rows.groupby("patient").split.nunique().max() == 1
    assert rows.positive.isna().all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,source,part,file\n1,a,elbow,a.png\n2,a,,b.png\n", "row 3: the column part is empty"),
        ("id,source,part,file\n1,,elbow,a.png\n", "row 2: the column source is empty"),
        ("id,source,part,file\n1,a,elbow,\n", "row 2: the column file is empty"),
        ("id,source,part,file\n", "has no rows"),
    ],
)
def test_what_is_missing_in_a_manifest_is_said(tmp_path, text, said):
    with pytest.raises(DataInvalid, match=said):
        listed(tmp_path, text)


def test_two_folders_of_one_name_would_mix_their_patients(tmp_path):
    for site in ("one", "two"):
        folder = tmp_path / site / "xray" / "elbow" / "normal"
        folder.mkdir(parents=True)
        (folder / "p1.png").write_bytes(b"x")
    both = [f"folder:{tmp_path / site / 'xray'}" for site in ("one", "two")]
    with pytest.raises(DataInvalid, match="2 folders are called xray"):
        data.gather(both)
    assert len(data.gather(both[:1])) == 1


def test_studies_that_each_patient_counts_from_one_stay_apart():
    rows = pd.concat([scored.rows().iloc[:2].assign(patient=p) for p in "abc"])
    rows["study"] = "1"
    rows["positive"] = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    studies = by_study(rows)
    assert studies.patient.tolist() == ["a", "b", "c"]
    assert studies.positive.tolist() == [1.0, 0.0, 1.0] and studies.views.tolist() == [2, 2, 2]
    assert data.studies(rows).to_dict() == {"drawn": 3}


def test_a_part_with_labels_of_one_class_has_the_figures_that_it_can_have():
    rows = scored.rows().assign(positive=1.0)
    measured = figures.figures(rows, scored.cascade(), draws=20)
    every = [r for r in measured if (r["stage"], r["source"]) == ("fracture", "all")]
    found = {r["metric"]: r for r in every if r["level"] == "image"}
    assert math.isnan(found["auroc"]["value"]) and math.isnan(found["auprc"]["value"])
    assert found["sensitivity (balanced)"]["value"] == pytest.approx(4 / 7)
    assert "not defined" in records.table(measured)


def test_terms_follow_from_what_was_trained_on():
    own = {"sources": ["site"], "commands": ["python -m training fit --init scratch"]}
    assert terms.licence(own) == "Weights: what the owners of site allow."
    assert terms.credits(own) == "" and terms.limits(own) == []
    base = {"sources": ["fracatlas", "mura_subset"], "commands": ["python -m training distill"]}
    further = own | {"base": {"id": "x", "training_data": base}}
    assert "trained on MURA" in terms.licence(further) and "site" in terms.licence(further)
    assert "Stanford" in terms.credits(further) and terms.TEACHER in terms.credits(further)
    assert len(terms.limits(further)) == 1
    assert "of elbow and hand radiographs" in terms.intended_use(["hand", "body_part", "elbow"])
    assert "of hand radiographs" in terms.intended_use(["hand", "body_part"])


def test_a_run_from_an_alias_names_the_release_that_it_was(tmp_path):
    (tmp_path / "config.toml").write_text('data = ["manifest:a.csv"]\ninit = "champion"\n')
    (tmp_path / "base.json").write_text(json.dumps({"id": "2026.12-3", "sha256": "0" * 64}))
    assert tomllib.loads((tmp_path / "config.toml").read_text())["init"] == "champion"
    [command] = provenance.commands(tmp_path)
    assert "--init 2026.12-3" in command


def test_the_sources_of_everything_behind_a_run_count(tmp_path, weights, monkeypatch, caplog):
    """A clause of MURA's comes along, whichever run of them has seen it."""
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    listed = tmp_path / "own.csv"
    listed.write_text("id,source,part,file\n1,site,elbow,a.png\n")

    def made(name: str, init: str, source: str = "", **more: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {"data": [f"manifest:{listed}"], "init": init} | more
        (folder / "config.json").write_text(json.dumps(config))
        if source:
            (folder / "rows.csv").write_text(f"source,id,split,kept\n{source},1,train,yes\n")
        return folder

    teacher = made("lite2", "imagenet", "fracatlas")
    trunk = made("trunk", "", "mura_subset", teacher=str(teacher))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text(
        f'data = ["manifest:{listed}"]\ninit = "{trunk}/checkpoint.pt"\n'
    )
    assert provenance.sources(run) == {"site", "mura_subset", "fracatlas"} and not caplog.text
    released = made("further", "champion", "simulated")
    known = Registry.open(weights).find("champion")
    assert provenance.sources(released) == {"simulated", *terms.sources(known.training_data)}
    monkeypatch.chdir(tmp_path)  # where a run needs no "/"
    assert provenance.sources(made("near", "lite2")) == {"site", "fracatlas"}
    assert len(provenance.commands(tmp_path / "near")) == 2
    itself = made("itself", str(tmp_path / "itself" / "checkpoint.pt"), "unifesp")
    assert provenance.sources(itself) == {"unifesp"}
    gone = made("gone", str(tmp_path / "nowhere" / "checkpoint.pt"), "unifesp")
    assert provenance.sources(gone) == {"unifesp"} and "nowhere" in caplog.text


def test_a_member_as_imagenet_left_it_credits_who_made_it():
    command = "python -m training member --base runs/first --data manifest:own.csv --out runs/b"
    assert terms.credits({"sources": [], "commands": [command]}) == terms.TEACHER
    assert terms.credits({"sources": [], "commands": [f"{command} --init runs/own"]}) == ""


def test_evaluate_reads_the_weights_that_the_settings_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BONE_WEIGHTS", str(tmp_path / "elsewhere"))
    (tmp_path / "a.csv").write_text("id,source,part,file\n1,a,elbow,a.png\n")
    assert main(["evaluate", "--data", f"manifest:{tmp_path / 'a.csv'}"]) == 1
    assert "There is no manifest.json" in capsys.readouterr().err


def test_a_release_says_what_it_has_lost(tmp_path, weights, monkeypatch):
    """Parts that have no model any more, and networks beside the ResNet50 of those that have."""
    before = Registry.open(weights).find("champion")
    smaller = replace(
        before, id="smaller", stages={k: before.stages[k] for k in ("body_part", "elbow")}
    )
    assert catalogue.lost(weights, smaller) == ["Release smaller has no model of: hand, shoulder."]
    assert catalogue.lost(weights, before) == catalogue.lost(tmp_path, smaller) == []
    two = {"body_part": {"Second"}, "elbow": {"Second"}, "hand": {"Second"}, "shoulder": set()}
    members = {"random": two, "tuned": two | {"elbow": set()}}
    monkeypatch.setattr(catalogue, "_members", lambda release: members[release.id])
    [said] = catalogue.lost(weights, replace(before, id="tuned"))
    assert "Release tuned has no Second for the elbow, which random has" in said
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setattr(catalogue, "lost", lambda *_: [said])
    monkeypatch.setattr("pages._audit.write", lambda *a, **k: None)
    state: dict[str, str] = {}
    monkeypatch.setattr(_shelf.st, "session_state", state)
    _shelf._added(lambda: ("random", ["It gets no figures."]))
    assert state["done"] == f"random was added. It is not in use yet. It gets no figures. {said}"
