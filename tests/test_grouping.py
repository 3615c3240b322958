"""Which files are views of one study, on Diagnose, in a batch, in a report: one patient's alone."""

from __future__ import annotations

import csv
import threading
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.batch import tables
from core.batch.run import Order, run
from core.batch.scoring import Scorer
from core.cascade import Cascade
from core.commands import report as command
from core.errors import ImageRejected
from core.header import patient_of
from core.settings import ImageLimits, Settings
from core.study import key_of, study_uid_of, without_patient
from core.types import BodyPart
from pages import _results, _scoring
from pages._sources import Source
from tests.simulated import dicom, encoded, phantom

LIMITS = ImageLimits()
UID = "1.2.826.0.7"


def radiograph(patient: str, seed: int, uid: str = UID) -> bytes:
    return dicom(
        phantom(200, 160, seed=seed),
        StudyInstanceUID=uid,
        SeriesInstanceUID=f"{uid}.1",
        SOPInstanceUID=f"{UID}.{seed}",
        PatientID=patient,
    )


def given(*files: tuple[str, bytes], start: int = 0) -> list[Source]:
    return [
        Source(f"{start + n}", name, lambda data=data: data, size=len(data))
        for n, (name, data) in enumerate(files)
    ]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> _scoring.Session:
    monkeypatch.setattr("pages._audit.write", lambda *_, **__: None)
    monkeypatch.setattr("pages._access.actor", lambda: "a")
    return _scoring.Session()


def groups(memory: _scoring.Session, cascade: Cascade, sources: list[Source]) -> list[list[str]]:
    """The ids of the files of each study, as the page groups them."""
    results = _results.Results(sources, cascade, LIMITS, memory)
    for source in sources:
        memory.peek(source, LIMITS)
    return [[s.id for s in study.sources] for study in results._studies()]


def test_a_key_tells_patients_apart_and_hides_nothing_else() -> None:
    one, other = (key_of("x/a.dcm", UID, patient) for patient in ("ab12", "cd34"))
    assert one != other and without_patient(one) == without_patient(other) == UID
    assert key_of("x/a.dcm", UID) == UID and without_patient("x") == "x"
    told = patient_of(SimpleNamespace(get={"PatientID": " 4711 "}.get))  # type: ignore[arg-type]
    assert len(told) == 12 and "4711" not in told
    assert told == patient_of(SimpleNamespace(get={"PatientID": "4711"}.get))  # type: ignore[arg-type]
    assert patient_of(SimpleNamespace(get={}.get)) == ""  # type: ignore[arg-type]


def test_two_patients_of_one_uid_are_two_studies_on_the_page(memory, cascade) -> None:
    sources = given(
        ("a.dcm", radiograph("A", 1)), ("b.dcm", radiograph("B", 2)), ("c.dcm", radiograph("A", 3))
    )
    assert groups(memory, cascade, sources) == [["0", "2"], ["1"]]
    # who puts them into one all the same is told, and so is the report
    memory.drops.moved.update(dict.fromkeys("012", _results.TOGETHER))
    results = _results.Results(sources, cascade, LIMITS, memory)
    results._score(sources[0])
    [study] = results._studies()
    assert study.result.notes[0] == _results.SEVERAL.format(2)


def test_folders_of_one_name_that_were_dropped_one_after_the_other(memory, cascade) -> None:
    first = given(("images/1.png", b"1"), ("images/2.png", b"2"))
    second = given(("images/1.png", b"3"), ("images/3.png", b"4"), start=2)
    assert groups(memory, cascade, first) == [["0", "1"]]
    memory.drops.latest -= 60
    assert groups(memory, cascade, first + second) == [["0", "1"], ["2", "3"]]
    # the same folder again, with one view more
    memory.drops.latest -= 60
    again = given(("images/1.png", b"1"), ("images/2.png", b"2"), ("images/9.png", b"9"), start=90)
    assert groups(memory, cascade, first + second + again) == [["0", "1", "92"], ["2", "3"]]
    # of one patient and study by their names, whenever they come
    name = "XR_ELBOW/patient00011/study1_positive/image{}.png"
    mura = given((name.format(1), b"5"), start=4)
    memory.drops.latest -= 60
    groups(memory, cascade, mura)
    memory.drops.latest -= 60
    both = mura + given((name.format(2), b"6"), start=5)
    assert groups(memory, cascade, both) == [["4", "5"]]


def test_what_is_dropped_is_opened_though_a_run_is_cut_off(memory, cascade, monkeypatch) -> None:
    """A click or a poll ends a run of the page wherever it looks at the session's state."""

    class CutOff(Exception):
        pass

    class State(dict[str, object]):
        times = 1

        def __setitem__(self, key: str, value: object) -> None:
            self.times -= 1
            if self.times == 0:
                raise CutOff
            super().__setitem__(key, value)

    state = State()
    monkeypatch.setattr(_results.st, "session_state", state)
    first, second = given(("a.png", b"1"), ("b.png", b"2")), given(("c.png", b"3"), start=2)
    _results.Results(first, cascade, LIMITS, memory)
    assert "shown" not in state
    memory.drops.latest -= 60
    with pytest.raises(CutOff):
        _results.Results(first + second, cascade, LIMITS, memory)
    _results.Results(first + second, cascade, LIMITS, memory)
    assert state["shown"] == ("2",)
    state["shown"] = ("0",)  # the reader goes back to another one
    _results.Results(first + second, cascade, LIMITS, memory)
    assert state["shown"] == ("0",)


def export(*pictures: bytes, start: int = 0) -> list[Source]:
    """A folder as a viewer writes it, with a file of its own that is the same in each."""
    named = [(f"export/IMG{n}.jpg", data) for n, data in enumerate(pictures)]
    return given(("export/README.TXT", b"viewer"), *named, start=start)


@pytest.mark.parametrize("other", [(b"B", b"B2"), (b"A", b"B2"), (b"B",)])
def test_a_file_that_two_folders_have_makes_them_no_study(memory, cascade, other) -> None:
    first, second = export(b"A", b"A2"), export(*other, start=10)
    groups(memory, cascade, first)
    memory.drops.latest -= 60
    both = [[s.id for s in first], [s.id for s in second]]
    assert groups(memory, cascade, first + second) == both
    # one that has something new, and not all that the first one had
    memory.drops.latest -= 60
    third = [*export(b"A", start=20), *given(("export/other.jpg", b"C"), start=22)]
    assert groups(memory, cascade, first + second + third) == [*both, ["20", "21", "22"]]
    # some of the first one again
    memory.drops.latest -= 60
    some = first + second + third + export(b"A", start=30)
    assert groups(memory, cascade, some) == [*both, ["20", "21", "22"]]


@pytest.mark.parametrize("runs", [1, 2])
def test_folders_of_one_name_that_came_as_one_drop(memory, cascade, runs: int) -> None:
    first, second = export(b"A", b"A2"), export(b"B", b"B2", start=10)
    if runs == 2:
        assert groups(memory, cascade, first) == [["0", "1", "2"]]
    both = [["0", "1", "2"], ["10", "11", "12"]]
    assert groups(memory, cascade, first + second) == both
    # whose file it is that one of them has alone, nobody knows
    results = _results.Results(first + second, cascade, LIMITS, memory)
    assert [s.result.notes[:1] for s in results._studies()] == [(_results.TWOFOLD,)] * 2
    memory.drops.moved.update(dict.fromkeys(("0", "1", "2"), "as a reader put them"))
    assert [s.result.notes[:1] for s in results._studies()] == [(), (_results.TWOFOLD,)]


def test_a_folder_that_was_dropped_twice_at_once_is_no_other_patients(memory, cascade) -> None:
    def notes(*sources: Source) -> list[tuple[str, ...]]:
        results = _results.Results(sources, cascade, LIMITS, memory)
        return [s.result.notes[:1] for s in results._studies()]

    first, again, third = (export(b"A", b"A2", start=n) for n in (0, 10, 20))
    assert notes(*first, *again, *third) == [()]
    # not all of it came again: what is missing may be mixed up with the first
    memory.drops.latest -= 60
    some = export(b"B", b"B2", start=30), export(b"B", start=40)
    assert notes(*some[0], *some[1]) == [(_results.TWOFOLD,)]
    # nor does a copy hide that a third one is another
    memory.drops.latest -= 60
    same = [*export(b"C", b"C2", start=50), *export(b"C", b"C2", start=60)]
    assert notes(*same, *export(b"D", b"C2", start=70)) == [(_results.TWOFOLD,)] * 2


def test_what_comes_with_dicom_files_counts_once_however_they_come(memory, cascade) -> None:
    def part(*seeds: int, start: int) -> list[Source]:
        named = [(f"CD/{n}.dcm", radiograph("A", n)) for n in seeds]
        return given(("CD/README", b"viewer"), *named, start=start)

    first, second = part(1, 2, start=0), part(3, start=10)
    assert groups(memory, cascade, first) == [["0"], ["1", "2"]]
    memory.drops.latest -= 60
    assert groups(memory, cascade, first + second) == [["0"], ["1", "2", "11"]]


def test_what_comes_again_is_shown_and_not_what_another_folder_has_too(
    memory, cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: dict[str, object] = {}
    monkeypatch.setattr("streamlit.session_state", state)
    sources: list[Source] = []
    for drop in (export(b"A"), export(b"B", start=10), export(b"B", start=20)):
        sources += drop
        memory.drops.latest -= 60
        groups(memory, cascade, sources)
    assert state["shown"] == ("10",)  # its README, not that of the first


def test_what_two_folders_have_stays_when_one_of_them_is_removed(
    memory, cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = export(b"A", b"A2"), export(b"B", b"B2", start=10)
    state: dict[str, object] = {}
    removed: list[set[str]] = []
    monkeypatch.setattr("streamlit.session_state", state)
    monkeypatch.setattr("pages._sources.remove", removed.append)
    groups(memory, cascade, first)
    memory.drops.latest -= 60
    again = export(b"A", start=20)
    results = _results.Results(first + second, cascade, LIMITS, memory)
    assert state["shown"] == ("10",)  # and not the study that has the same README
    memory.drops.latest -= 60
    results = _results.Results(first + second + again, cascade, LIMITS, memory)
    results._remove(*results._studies()[:2])
    assert removed == [{"0", "1", "2", "20", "21"}]


def test_a_file_that_is_dropped_again_counts_once(memory, cascade) -> None:
    data = radiograph("A", 1)
    sources = given(("a.dcm", data), ("b.dcm", radiograph("A", 2)), ("a.dcm", data))
    assert groups(memory, cascade, sources) == [["0", "1"]]
    # the same bytes under another name, or another file of the same name, are the reader's to judge
    others = given(("a.dcm", data), ("z.dcm", data), ("a.dcm", radiograph("A", 3)), start=5)
    assert groups(memory, cascade, others) == [["5", "6", "7"]]


def test_a_part_without_a_model_any_more_is_not_asked(memory, cascade) -> None:
    memory.chosen = {"0": BodyPart("wrist"), "1": BodyPart.HAND, "2": BodyPart.OTHER}
    memory.forget_parts(cascade.release)
    assert memory.chosen == {"1": BodyPart.HAND, "2": BodyPart.OTHER}


def test_what_the_header_says_is_compared_with_what_was_assessed(memory, cascade) -> None:
    """Not with another result of the same picture."""
    data = dicom(phantom(200, 160), BodyPartExamined="KNEE", PatientID="A")
    [source] = given(("a.dcm", data))
    for part in (BodyPart.HAND, BodyPart.ELBOW):
        memory.chosen[source.id] = part
        said = memory.result(source, cascade, LIMITS).origin.cautions
        assert len(said) == 1 and f"says knee, but a reader says the {part}" in said[0]


def test_what_a_study_is_called_in_a_table() -> None:
    one, other = (key_of("x/a.dcm", UID, patient) for patient in ("ab12", "cd34"))
    assert [tables._name(k, [k]) for k in (one, UID)] == [UID, UID]
    both = [one, other, UID]
    names = [tables._name(k, both) for k in both]
    assert names == [f"{UID}, patient 1 of 2", f"{UID}, patient 2 of 2", f"{UID}, no Patient ID"]
    assert [tables._name(k, [one, UID]) for k in (one, UID)] == [UID, f"{UID}, no Patient ID"]
    assert [study_uid_of(k) for k in (one, UID, "x", "2024")] == [UID, UID, "", ""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in {
        "a.dcm": radiograph("A", 1),
        "b.dcm": radiograph("B", 2),
        "cut.dcm": radiograph("A", 3)[:-4000],
        "d.dcm": radiograph("A", 4, uid=f"{UID}.9"),
        "e.png": encoded(phantom(200, 160), "PNG"),
    }.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def test_a_batch_by_study(folder: Path, cascade: Cascade, tmp_path: Path) -> None:
    """A view that cannot be decoded belongs to the study that its header names."""
    out = tmp_path / "out.csv"
    order = Order(folder, out, by="study")
    run(order, Scorer(cascade, LIMITS, batch=2, threads=1), threading.Event(), StringIO())
    with out.open(newline="") as lines:
        rows = {r["study"]: r for r in csv.DictReader(lines)}
    assert [(k, r["views"], r["views_counted"]) for k, r in rows.items()] == [
        (f"{UID}, patient 1 of 2", "2", "1"),
        (f"{UID}, patient 2 of 2", "1", "1"),
        (f"{UID}.9", "1", "1"),
        (str(folder), "1", "1"),
    ]
    assert "1 of 2 views was not assessed." in rows[f"{UID}, patient 1 of 2"]["notes"]
    for form in ("jsonl", "csv"):
        out = tmp_path / f"images.{form}"
        run(Order(folder, out), Scorer(cascade, LIMITS), threading.Event(), StringIO())
        assert "patient" not in out.read_text() and "study_uid" not in out.read_text()


@pytest.mark.parametrize("form", ["pdf", "json", "dcm"])
def test_no_report_of_two_patients(form: str, folder: Path, weights: Path, tmp_path: Path) -> None:
    options = SimpleNamespace(
        images=[folder / "a.dcm", folder / "b.dcm"], out=tmp_path / f"x.{form}", names=False,
        point="sensitive", prevalence=None,
    )  # fmt: skip
    with pytest.raises(ImageRejected, match="several patients"):
        command.run(options, Settings(weights=weights, home=tmp_path, device="cpu"))  # type: ignore[arg-type]
    assert not options.out.exists()
