"""Studies that are not what they should be: of two patients, half readable, corrected, mixed."""

from __future__ import annotations

import io
import json
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt

from core import imaging, pipeline
from core.cascade import Cascade
from core.commands import listen
from core.dicom_out import encoding, reply
from core.dicom_out.fhir import diagnostic_report
from core.errors import ImageRejected, StoreUnavailable
from core.pacs import listener, polls, scoring, sender, service
from core.pacs.folder import WatchedFolder
from core.pacs.inbox import Inbox
from core.pacs.listener import Door, serve
from core.pacs.outbox import Outbox
from core.pacs.scoring import StudyScorer, superseded_in, teller
from core.quality import finding_of
from core.settings import ImageLimits, Settings
from core.store import Opinion, Store, Verdict, tables
from core.study import combine, key_of, study_uid_of
from core.types import BodyPart, Finding, FracturePrediction
from tests.listening import sent
from tests.test_signing import ELBOW, Hospital
from tests.waiting import eventually

LIMITS = ImageLimits()
TO = "PACS@localhost:104"


def radiograph(instance: str, patient: str = "P-1", cut: bool = False, **values: str) -> bytes:
    """The sample of an elbow, another instance and patient. cut: most of its pixels are gone."""
    file = pydicom.dcmread(ELBOW)
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{instance}"
    file.PatientID = patient
    for name, value in values.items():
        setattr(file, name, value)
    if cut:
        file.PixelData = file.PixelData[:1000]
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


def corrected(data: bytes) -> bytes:
    """The same object by its UIDs, with another picture."""
    file = pydicom.dcmread(io.BytesIO(data))
    file.PixelData = bytes(reversed(file.PixelData))
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


@pytest.fixture
def parts(cascade: Cascade, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A listener's inbox, outbox, worklist and scorer."""
    store, outbox = Store.open(Settings(home=tmp_path)), Outbox(tmp_path / "outbox")
    scorer = StudyScorer(cascade, store, outbox, LIMITS, [TO])
    yield SimpleNamespace(
        inbox=Inbox(tmp_path / "inbox"), outbox=outbox, store=store, scorer=scorer
    )
    store.close()


def scored(parts: SimpleNamespace, *files: bytes) -> list[Dataset]:
    """What is to be sent once these files of one study have come."""
    for n, data in enumerate(files):
        parts.inbox.put("1.2.3", f"{n}.dcm", data, instead=True)
    gone_through(parts)
    return [pydicom.dcmread(w.item) for w in parts.outbox.waiting()]


def test_two_patients_of_one_study_uid_are_never_put_together(parts, caplog) -> None:
    with caplog.at_level(logging.ERROR):
        objects = scored(parts, radiograph("1", "P-ANNA"), radiograph("2", "P-BERTA"))
    assert "radiographs of 2 patients" in caplog.text and "ANNA" not in caplog.text
    titles = sorted(e.title for e in parts.store.worklist())
    assert [t.rpartition(", ")[2] for t in titles] == ["patient 1 of 2", "patient 2 of 2"]
    assert not any(e.newer for e in parts.store.worklist())  # neither takes the other's place
    for patient, instance in (("P-ANNA", "1"), ("P-BERTA", "2")):
        own = [o for o in objects if o.PatientID == patient]
        assert {o.Modality for o in own} >= {"OT", "SR", "DOC"}
        [report] = [o for o in own if o.Modality == "SR"]
        [study] = report.CurrentRequestedProcedureEvidenceSequence
        [series] = study.ReferencedSeriesSequence
        [seen] = series.ReferencedSOPSequence
        assert seen.ReferencedSOPInstanceUID == f"1.2.826.0.1.{instance}"
        [document] = [o for o in own if o.Modality == "DOC"]
        assert len(document.SourceInstanceSequence) == 1


def test_a_file_that_tells_nothing_is_no_patient_and_is_told_to_each(parts) -> None:
    objects = scored(parts, radiograph("1", "P-ANNA"), radiograph("2", "P-BERTA"), b"no picture")
    titles = sorted(e.title for e in parts.store.worklist())
    assert [t.rpartition(", ")[2] for t in titles] == ["patient 1 of 2", "patient 2 of 2"]
    reports = [o.to_json() for o in objects if o.Modality == "SR"]
    said = "1 of 2 radiographs of the study are not in this result."
    assert len(reports) == 2 and all(said in report for report in reports)


def test_files_in_a_folder_are_known_by_their_whole_names(parts, tmp_path: Path) -> None:
    """What lies in a folder that is called by a date is of many patients, and so is a name."""
    names = ["05.12.2026/a.png", "05.12.2026/b.png", "sub/a.png"]
    files = {name: f"no picture {name}".encode() for name in names}
    dropped(parts, tmp_path / "watched", files)
    assert sorted(r.key for r in parts.store.studies()) == names
    dropped(parts, tmp_path / "watched", {names[0]: b"another patient's"})
    assert len(parts.store.worklist()) == 4 and not any(e.newer for e in parts.store.worklist())


def received(parts: SimpleNamespace, uid: str, files: Mapping[str, bytes]) -> None:
    """These objects come from the network under this Study Instance UID, and are gone through."""
    for number, data in files.items():
        event = SimpleNamespace(
            encoded_dataset=lambda data=data: data,
            dataset=SimpleNamespace(
                StudyInstanceUID=uid, SOPInstanceUID=number, get=lambda _: "Vendor"
            ),
            request=SimpleNamespace(AffectedSOPInstanceUID=number),
        )
        assert listener._write(event, len(data), parts.inbox) == listener.SUCCESS
    gone_through(parts)


@pytest.mark.parametrize("late", [False, True])
def test_an_object_that_cannot_be_read_corrects_no_patient(parts, late: bool) -> None:
    """It is given to each patient of its study, as it may be a view of any of them."""
    bad, anna, berta = (f"1.2.826.0.1.{n}" for n in (3, 1, 2))
    files = {bad: refused("damaged"), anna: radiograph("1", "P-ANNA")}
    later = {berta: radiograph("2", "P-BERTA")}
    uid = "1.2.840.99.7.1"
    if late:
        received(parts, uid, files)
        files = {bad: refused("damaged")[:300]}  # sent again, and cut elsewhere
    received(parts, uid, files | later)
    records = {r.id: r for r in parts.store.studies()}
    assert len(records) == 2 + late
    assert {len(r.result.views) for r in records.values()} == {2}
    assert all(records[r.newer].key == r.key for r in records.values() if r.newer)
    assert sum(not r.newer for r in records.values()) == 2  # one of each patient


def gone_through(parts: SimpleNamespace) -> None:
    for study in parts.inbox.due(0):
        parts.inbox.done(study, parts.scorer.score(study))


def dropped(parts: SimpleNamespace, folder: Path, files: Mapping[str, bytes]) -> None:
    """These files are dropped into a watched folder, and are gone through."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    watched = WatchedFolder(folder, folder.parent / "taken.jsonl", LIMITS)
    assert watched.poll(parts.inbox) + watched.poll(parts.inbox) == len(files)
    gone_through(parts)


def unreadable(*instances: str) -> dict[str, bytes]:
    return {f"1.2.826.0.1.{n}": f"no picture {n}".encode() for n in instances}


@pytest.mark.parametrize("uid", ["VENDOR-7_a", "2024", "1.2/3.4"])
def test_a_late_view_of_an_odd_study_uid_takes_the_place_of_the_first(parts, uid: str) -> None:
    received(parts, uid, unreadable("1"))
    [first] = [e.id for e in parts.store.worklist()]
    received(parts, uid, unreadable("2"))
    newer = {e.id: e.newer for e in parts.store.worklist()}
    assert len(newer) == 2 and newer[newer[first]] == ""
    assert parts.store.study(first).newer == newer[first]
    # The worklist knows it by what the hospital knows it by.
    assert [e.title for e in parts.store.worklist()] == [uid, uid]


def test_two_odd_study_uids_that_look_like_files_of_one_folder_are_two_studies(parts) -> None:
    received(parts, "2024/0017", unreadable("1"))
    received(parts, "2024/0018", unreadable("1", "2"))
    records = parts.store.studies()
    assert len({r.key for r in records}) == 2 and not any(r.newer for r in records)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize("uid", ["1.2.840.113619.2.05.7", "1.2.3"])
def test_a_correction_after_an_upgrade_takes_the_place_of_what_came_before(
    parts, tmp_path: Path, uid: str
) -> None:
    """A key with a patient stays what it was, with the zeros that a device writes in front."""
    first = radiograph("1", StudyInstanceUID=uid)
    received(parts, uid, {"1.2.826.0.1.1": first})
    [old] = parts.store.studies()
    assert old.key == key_of("x", uid, imaging.peek(first, LIMITS).patient)
    dropped(parts, tmp_path / "watched", {"a.dcm": corrected(first)})
    newer = {r.id: r.newer for r in parts.store.studies()}
    assert len(newer) == 2 and newer[newer[old.id]] == ""


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_views_of_a_short_study_uid_come_together_without_a_patient(parts, tmp_path) -> None:
    """A header says it: what is a UID there may be a name only for a folder."""
    views = [radiograph(n, StudyInstanceUID="1.2.3", PatientID="") for n in "12"]
    dropped(parts, tmp_path / "watched", {"1/a.dcm": views[0], "2/a.dcm": views[1], "3.1": b"x"})
    whole, other = sorted(parts.store.studies(), key=lambda r: -len(r.result.views))
    assert len(whole.result.views) == 2 and study_uid_of(whole.key)
    assert study_uid_of(other.key) == ""


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize("uid", ["VENDOR-7_a", "2024", "1..2"])
def test_an_odd_study_uid_is_one_study_by_network_and_by_folder(
    parts, tmp_path: Path, uid: str
) -> None:
    by_network, by_folder = (radiograph(n, StudyInstanceUID=uid) for n in ("1", "2"))
    received(parts, uid, {"1.2.826.0.1.1": by_network})
    dropped(parts, tmp_path / "watched", {"a.dcm": by_folder})
    older, newest = sorted(parts.store.studies(), key=lambda r: len(r.result.views))
    assert (older.newer, len(newest.result.views)) == (newest.id, 2) and newest.key == older.key
    assert newest.title == uid and not parts.outbox.waiting()  # nothing can be put beside it


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_a_later_drop_of_an_odd_study_uid_takes_the_place_of_the_first(parts, tmp_path) -> None:
    odd = {"StudyInstanceUID": "VENDOR-7_a"}
    first, later = (radiograph(n, SOPInstanceUID=f"VENDOR-7_a.{n}", **odd) for n in ("1", "2"))
    dropped(parts, tmp_path / "watched", {"1/view.dcm": first})
    dropped(parts, tmp_path / "watched", {"2/view.dcm": later})
    older, newest = sorted(parts.store.studies(), key=lambda r: len(r.result.views))
    assert (older.newer, len(newest.result.views)) == (newest.id, 2)  # neither replaced the other


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_files_that_name_no_patient_are_not_one_study_for_an_odd_study_uid(parts, tmp_path) -> None:
    """What takes names out of files may write the same there into all."""
    odd = {"StudyInstanceUID": "0x", "PatientID": ""}
    files = {f"{n}/view.dcm": radiograph(n, **odd) for n in ("1", "2")}
    dropped(parts, tmp_path / "watched", files)
    assert [len(r.result.views) for r in parts.store.studies()] == [1, 1]


def refused(kind: str) -> bytes:
    """A second view that is refused, of the same patient as far as it says whose it is."""
    if kind == "damaged":
        return radiograph("2")[:400]
    file = pydicom.dcmread(io.BytesIO(radiograph("2")))
    if kind == "rows":
        file.Rows = file.Columns = 20
    elif kind == "colours":
        file.PhotometricInterpretation = "CIELAB"
    elif kind == "frames":
        file.NumberOfFrames = 1_000_000
    else:
        file.file_meta.TransferSyntaxUID = MPEG2MPML
        file.PixelData = encapsulate([file.PixelData[:100]])
        file["PixelData"].VR = "OB"
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["rows", "colours", "frames", "video", "damaged"])
def test_a_refused_view_is_of_the_same_patient_and_counted(parts, tmp_path, kind: str) -> None:
    objects = {o.Modality: o for o in scored(parts, refused(kind), radiograph("1"))}
    [entry] = parts.store.worklist()
    assert entry.views == 2 and "patient" not in entry.title
    assert "1 of 2 radiographs of the study are not in this result." in objects["SR"].to_json()
    assert objects["SR"].PatientID == "P-1"


def test_what_a_refused_file_says_of_itself() -> None:
    whole = imaging.peek(radiograph("2"), LIMITS)
    assert whole is not None and whole.patient and whole.study_uid
    for kind in ("rows", "colours", "video"):
        said = imaging.peek(refused(kind), LIMITS)
        assert said is not None and (said.patient, said.study_uid) == (
            whole.patient,
            whole.study_uid,
        )
    report = pydicom.dcmread(io.BytesIO(radiograph("2")), stop_before_pixels=True)
    del report.Rows
    out = io.BytesIO()
    report.save_as(out)
    assert imaging.peek(out.getvalue(), LIMITS) is None  # no picture: no view of its study
    assert imaging.peek(refused("damaged"), LIMITS) is None


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
def test_a_patient_id_that_cannot_be_repeated_leaves_the_study_on_the_list(parts, caplog) -> None:
    assert scored(parts, radiograph("1", "P" * 65)) == []
    [entry] = parts.store.worklist()
    assert entry.finding is not None and entry.views == 1
    assert "has no part in what is sent back. The Patient ID has more than 64" in caplog.text
    assert "P" * 65 not in caplog.text


def test_the_command_refuses_two_patients(cascade) -> None:
    files = [("a.dcm", radiograph("1", "P-ANNA")), ("b.dcm", radiograph("2", "P-BERTA"))]
    with pytest.raises(ImageRejected, match="several patients"):
        reply.assess(cascade, files, LIMITS)


def test_a_view_that_cannot_be_read_is_told_of_in_everything(cascade, parts, tmp_path) -> None:
    whole, half = radiograph("1"), radiograph("2", cut=True)
    said = "1 of 2 radiographs of the study are not in this result."
    objects = {o.Modality: o for o in scored(parts, whole, half)}
    assert said in objects["SR"].to_json()
    [entry] = parts.store.worklist()
    assert "1 of 2 views was not assessed." in parts.store.study(entry.id).result.notes
    assessment = reply.assess(cascade, [("a.dcm", whole), ("b.dcm", half)], LIMITS)
    assert said in diagnostic_report(assessment)["conclusion"]
    assert "1 of 2 views was not assessed." in assessment.study.notes
    alone = reply.assess(cascade, [("a.dcm", whole)], LIMITS)
    assert alone.uid("SR") != assessment.uid("SR") and not alone.unread


def said_of(monkeypatch: pytest.MonkeyPatch, told: dict[bytes, float]) -> None:
    """Each of these files is an elbow of this probability."""
    real = pipeline.diagnose

    def diagnose(cascade: Cascade, data: bytes, *args: object, **named: object) -> object:
        radiograph, result = real(cascade, data, *args, **named | {"part": BodyPart.ELBOW})
        points = cascade.release.stages["elbow"].operating_points
        fracture = FracturePrediction(told[data], finding_of(told[data], points))
        return radiograph, replace(result, fracture=fracture)

    for module in (reply, scoring):
        monkeypatch.setattr(module, "diagnose", diagnose)


def test_an_assessed_view_that_nothing_can_be_put_beside_is_counted(
    parts, monkeypatch, tmp_path
) -> None:
    whole, lone = radiograph("1"), radiograph("2", SeriesInstanceUID="")
    said_of(monkeypatch, {whole: 0.9, lone: 0.95})
    objects = {o.Modality: o for o in scored(parts, whole, lone)}
    assert "1 of 2 radiographs of the study are not in this result." in objects["SR"].to_json()
    [entry] = parts.store.worklist()
    assert entry.finding == Finding.SUSPECTED and entry.probability == pytest.approx(0.925)
    assert scoring.NOT_SENT not in parts.store.study(entry.id).result.notes


@pytest.mark.parametrize(
    "lone",
    [
        (0.95, {}),  # without it the elbow would not be suspected
        (0.05, {"ImageLaterality": "L"}),  # without it nobody would know the side
    ],
)
def test_nothing_is_sent_that_says_another_thing_than_the_worklist(
    parts, monkeypatch, caplog, lone
) -> None:
    told, header = lone
    files = {radiograph("1"): 0.05, radiograph("2", SeriesInstanceUID="", **header): told}
    said_of(monkeypatch, files)
    assert scored(parts, *files) == []
    [entry] = parts.store.worklist()
    assert scoring.NOT_SENT in parts.store.study(entry.id).result.notes
    assert "A study is not sent back." in caplog.text


@pytest.mark.parametrize(
    ("lone", "older", "signed", "said"),
    [
        (0.95, False, 0, "its result would be another one"),
        (0.05, False, 1, ""),
        (0.05, True, 0, "views are put together by another rule now"),
    ],
)
def test_what_is_signed_is_what_was_decided(
    cascade, tmp_path, monkeypatch, caplog, lone: float, older: bool, signed: int, said: str
) -> None:
    """A file that nothing can be put beside is told of, or the study is not reported.

    older: its result was stored by another rule.
    """
    hospital = Hospital(cascade, tmp_path)
    files = {radiograph("1"): 0.05, radiograph("2", SeriesInstanceUID=""): lone}
    said_of(monkeypatch, files)
    for n, data in enumerate(files):
        hospital.inbox.put("1.2.3", f"{n}.dcm", data, instead=True)
    [study] = hospital.inbox.due(0)
    StudyScorer(cascade, hospital.store, hospital.outbox, LIMITS, [TO]).score(study)
    [entry] = hospital.store.worklist()
    hospital.sent()
    if older:
        with hospital.store._database.writing() as (session, _):
            session.get(tables.Study, entry.id).finding = Finding.DOUBTFUL
    hospital.store.decide(entry.id, "ann", Opinion(Verdict.AGREE), 0)
    assert [hospital.later(), hospital.later()] == [signed, 0]
    objects = hospital.sent()
    assert ("SR VERIFIED" in objects) == bool(signed)
    reported = [r.message for r in caplog.records if "A decided study is not" in r.message]
    assert len(reported) == 1 - signed and all(said in message for message in reported)
    if signed:
        counted = "1 of 2 radiographs of the study are not in this result."
        assert counted in objects["SR VERIFIED"].to_json()
    hospital.store.close()


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="poppler-utils is not installed")
def test_the_report_on_paper_says_so_too(cascade, tmp_path) -> None:
    import subprocess

    files = [("a.dcm", radiograph("1")), ("b.dcm", radiograph("2", cut=True))]
    [page] = [
        item
        for name, item in reply.objects(reply.assess(cascade, files, LIMITS))
        if name == "report-pdf.dcm"
    ]
    (tmp_path / "a.pdf").write_bytes(page.EncapsulatedDocument)
    text = subprocess.check_output(["pdftotext", "-layout", tmp_path / "a.pdf", "-"], text=True)
    assert "1 of 2 views was not assessed." in text and "View 2" in text


def test_a_corrected_object_gets_objects_of_its_own(parts) -> None:
    first = {o.Modality: str(o.SOPInstanceUID) for o in scored(parts, radiograph("1"))}
    again = {o.Modality: str(o.SOPInstanceUID) for o in scored(parts, radiograph("1"))}
    assert again == first  # nothing new: there once
    uids = {str(o.SOPInstanceUID) for o in scored(parts, corrected(radiograph("1")))}
    assert len([u for u in uids if u not in first.values()]) >= 3


def test_what_came_again_since_is_not_signed(cascade, tmp_path, caplog) -> None:
    hospital = Hospital(cascade, tmp_path)
    study = hospital.arrives(radiograph("1"))
    hospital.sent()
    hospital.arrives(corrected(radiograph("1")))
    hospital.sent()
    [newer] = {e.id for e in hospital.store.worklist()} - {study}
    assert {e.id: e.newer for e in hospital.store.worklist()} == {study: newer, newer: ""}
    assert {r.id: r.newer for r in hospital.store.studies()} == {study: newer, newer: ""}
    hospital.store.decide(study, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 0 and not hospital.sent()
    assert "came again since" in caplog.text
    hospital.store.decide(newer, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 1 and "SR VERIFIED" in hospital.sent()
    hospital.store.close()


def test_what_came_again_under_the_right_patient_is_not_signed_for_the_wrong_one(
    cascade, tmp_path, caplog
) -> None:
    hospital = Hospital(cascade, tmp_path)
    wrong = hospital.arrives(radiograph("1", "P-ANNA"), name="1.2.826.0.1.1.dcm")
    hospital.arrives(radiograph("1", "P-BERTA"), name="1.2.826.0.1.1.dcm")
    hospital.sent()
    [right] = {e.id for e in hospital.store.worklist()} - {wrong}
    assert {e.id: e.newer for e in hospital.store.worklist()} == {wrong: right, right: ""}
    hospital.store.decide(wrong, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 0 and not hospital.sent()
    assert "came again since" in caplog.text
    hospital.store.decide(right, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 1 and hospital.sent()["SR VERIFIED"].PatientID == "P-BERTA"
    hospital.store.close()


def test_what_came_under_another_study_uid_is_neither_sent_nor_signed_for_the_wrong_patient(
    cascade, tmp_path, caplog
) -> None:
    hospital, name = Hospital(cascade, tmp_path), "1.2.826.0.1.1.dcm"
    uids = {"P-ANNA": "1.2.840.99.8.1", "P-BERTA": "1.2.840.99.8.2"}
    for patient, uid in uids.items():
        hospital.arrives(radiograph("1", patient, StudyInstanceUID=uid), uid, name)
    [wrong] = [e.id for e in hospital.store.worklist() if e.newer]
    read = [pydicom.dcmread(w.item) for w in hospital.outbox.waiting()]
    assert [o.PatientID for o in read] == sorted(o.PatientID for o in read)  # the oldest first
    tell, superseded = teller(hospital.store), superseded_in(hospital.store)
    sent_to: list[str] = []

    def send(_: str, items: Sequence[bytes]) -> list[bool]:
        sent_to.extend(str(pydicom.dcmread(io.BytesIO(i)).PatientID) for i in items)
        return [True] * len(items)

    [(to, due)] = hospital.outbox.due().items()
    hospital.outbox.send(to, due, send, tell, superseded)
    assert set(sent_to) == {"P-BERTA"} and not hospital.outbox.waiting()
    lines = [a for a in hospital.store.audit_lines() if a.event == "object.withdrawn"]
    assert len(lines) == len(read) - len(sent_to) > 0
    facts = [json.loads(a.facts) for a in lines]
    assert {(f["study"], f["attempts"]) for f in facts} == {(wrong, 0)}
    hospital.store.decide(wrong, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 0 and "came again since" in caplog.text
    hospital.store.close()


def test_an_object_that_cannot_be_read_corrects_no_study(parts) -> None:
    for n in "12":
        data = refused("damaged") + n.encode()
        received(parts, f"1.2.840.99.9.{n}", {"1.2.826.0.1.1": data})
    assert [e.newer for e in parts.store.worklist()] == ["", ""]


def test_an_object_that_cannot_be_read_takes_none_out_of_another_study(parts) -> None:
    """But the one that can be read is of the study that it came with last."""
    wrong, right = "1.2.840.99.9.1", "1.2.840.99.9.2"
    received(parts, right, {"1.2.826.0.1.1": refused("damaged")})
    received(parts, wrong, {"1.2.826.0.1.1": radiograph("1")})
    assert not list((parts.inbox._folder / right).glob("*.dcm"))
    received(parts, right, {"1.2.826.0.1.1": refused("damaged")})
    assert list((parts.inbox._folder / wrong).glob("*.dcm"))


def test_a_study_that_cannot_be_loaded_holds_up_no_destination(tmp_path, caplog) -> None:
    def study(_: str) -> None:
        raise error

    superseded = superseded_in(SimpleNamespace(study=study))  # type: ignore[arg-type]
    outbox, error = Outbox(tmp_path), StoreUnavailable("It is away.")
    outbox.put(TO, "1.2", b"x", study="a")
    with pytest.raises(StoreUnavailable):
        outbox.send(TO, outbox.due()[TO], lambda *_: [True], superseded=superseded)
    error = KeyError("_".join(("Jane", "Doe")))
    assert outbox.send(TO, outbox.due()[TO], lambda *_: [True], superseded=superseded) == 1
    assert "cannot be told: KeyError" in caplog.text and "Doe" not in caplog.text


@pytest.mark.parametrize(
    ("number", "date", "title"),
    [
        ("A-77", "20261130", "Accession A-77, 2026-11-30, study 0142377093413499"),
        ("DOE JANE", "", "Study 0142377093413499"),  # which may be a name
        ("DOE", "20261130", "2026-11-30, study 0142377093413499"),
    ],
)
def test_the_worklist_says_how_a_study_is_found_in_the_archive(
    parts, number: str, date: str, title: str
) -> None:
    data = radiograph("1", AccessionNumber=number, StudyDate=date)
    uid = pydicom.dcmread(io.BytesIO(data)).StudyInstanceUID
    received(parts, uid, {"1.2.826.0.1.1": data})
    assert [e.title for e in parts.store.worklist()] == [title]


def test_a_correction_that_is_taken_back_is_signed_for_the_patient_it_came_with_last(
    cascade, tmp_path
) -> None:
    hospital = Hospital(cascade, tmp_path)
    for patient in ("P-ANNA", "P-BERTA", "P-ANNA"):
        hospital.arrives(radiograph("1", patient), name="1.2.826.0.1.1.dcm")
        if patient == "P-BERTA":
            [anna] = [e.id for e in hospital.store.worklist() if e.newer]
            hospital.store.decide(anna, "ann", Opinion(Verdict.AGREE), 0)
            assert hospital.later() == 0
    hospital.sent()
    [berta] = [e.id for e in hospital.store.worklist() if e.newer]
    hospital.store.decide(berta, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 1 and hospital.sent()["SR VERIFIED"].PatientID == "P-ANNA"
    hospital.store.close()


def test_what_a_reader_added_first_is_signed_once_it_has_come(cascade, tmp_path) -> None:
    hospital = Hospital(cascade, tmp_path)
    data = radiograph("1")
    [result] = [v.result for v in reply.views_of(cascade, data, "elbow.dcm", LIMITS)]
    header = imaging.peek(data, LIMITS)
    study = combine(key_of("x", header.study_uid, header.patient), [result], cascade.release)
    own = hospital.store.add_study("Ann's", study, cascade.release, {result.sha256: data}, "ann")
    hospital.store.decide(own, "ann", Opinion(Verdict.AGREE), 0)
    assert hospital.later() == 0
    assert hospital.arrives(data, header.study_uid, "1.2.826.0.1.1.dcm") == own
    assert hospital.later() == 1 and "SR VERIFIED" in hospital.sent()
    hospital.store.close()


def test_a_router_is_not_stopped_by_what_is_no_radiograph(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "core.pacs")
    inbox = Inbox(tmp_path / "inbox")
    server = serve(Door(port=0, reserve=0), inbox, tmp_path)
    try:
        ae = AE()
        for kind in (KeyObjectSelectionDocumentStorage, CTImageStorage):
            ae.add_requested_context(kind, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", server.socket.getsockname()[1], ae_title="BONE")
        assert len(association.accepted_contexts) == 2
        for kind in (KeyObjectSelectionDocumentStorage, CTImageStorage):
            item = Dataset()
            item.SOPClassUID, item.SOPInstanceUID, item.StudyInstanceUID = kind, "1.2", "1.3"
            item.file_meta = pydicom.dataset.FileMetaDataset()
            item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            assert association.send_c_store(item).Status == 0x0000
        association.release()
        eventually(lambda: "dropped as no radiographs: 2 objects" in caplog.text)
    finally:
        server.shutdown()
    assert not list(inbox.due(0))


def test_an_archive_that_hangs_delays_no_other(tmp_path) -> None:
    outbox, stop, ended, hangs = Outbox(tmp_path), threading.Event(), [], threading.Event()
    for n in range(3):
        outbox.put("HANGS@localhost:1", f"1.{n}", b"x")
        outbox.put("WORKS@localhost:2", f"1.{n}", b"x")

    def send(destination: str, items: Sequence[bytes]) -> list[bool]:
        if destination.startswith("HANGS"):
            hangs.wait(5)
            ended.append("hangs")
            return [False] * len(items)
        ended.append("works")
        stop.set()
        return [True] * len(items)

    try:
        service.keep_sending(outbox, send, stop, lambda *_: hangs.set())
    finally:
        hangs.set()
    assert ended == ["works", "hangs"]
    assert outbox.destinations() == {"HANGS@localhost:1": 3}


def test_a_server_that_does_not_answer_is_asked_once_a_batch(monkeypatch) -> None:
    asked = []

    def never(opener: object, url: str, data: bytes, authorization: str) -> None:
        asked.append(data)

    monkeypatch.setattr(sender, "_stow", never)
    assert sender.send("http://127.0.0.1:9/studies", [b"a", b"b", b"c"]) == [False, None, None]
    assert asked == [b"a"]


def test_what_was_not_tried_does_not_wait_for_the_one_before_it(tmp_path) -> None:
    outbox = Outbox(tmp_path)
    for n in range(3):
        outbox.put(TO, f"1.{n}", str(n).encode())
    first = outbox.due()[TO][0].item.read_bytes()

    def send(_: str, items: Sequence[bytes]) -> list[bool | None]:
        """An archive that hangs up at one object, whatever stands behind it."""
        bad = items.index(first) if first in items else len(items)
        return [n < bad if n <= bad else None for n in range(len(items))]

    assert sent(outbox, send) == 0
    assert sorted(w.attempts for w in outbox.waiting()) == [0, 0, 1]
    assert sent(outbox, send) == 2  # at once
    assert [w.attempts for w in outbox.waiting()] == [1]


# pynetdicom 3.0.4 leaves the socket of an aborted association to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_archive_that_aborts_was_asked_for_one_object(cascade) -> None:
    [picture, *_] = [
        encoding.encoded(item)
        for _, item in reply.objects(reply.assess(cascade, [("a", radiograph("1"))], LIMITS))
    ]

    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, abort)])
    try:
        to = f"PACS@127.0.0.1:{server.socket.getsockname()[1]}"
        assert sender.send(to, [picture] * 3) == [False, None, None]
    finally:
        server.shutdown()


def test_a_folder_knows_an_object_by_its_uid(tmp_path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    inbox = Inbox(tmp_path / "inbox")
    folder = WatchedFolder(watched, tmp_path / "taken.jsonl", LIMITS)
    for name in ("a.dcm", "b.dcm"):
        (watched / name).write_bytes(radiograph("1"))
    assert folder.poll(inbox) + folder.poll(inbox) == 2
    [study] = inbox.due(0)
    assert len(study.names) == 1
    (watched / "c.dcm").write_bytes(refused("rows"))  # a view of its study all the same
    folder.poll(inbox)
    assert folder.poll(inbox) == 1
    [study] = inbox.due(0)
    assert len(study.names) == 2
    (watched / "c.dcm").unlink()
    next(study.folder.glob("*1.2.826.0.1.2.dcm")).unlink()
    (watched / "a.dcm").write_bytes(corrected(radiograph("1")))
    folder.poll(inbox)
    assert folder.poll(inbox) == 1
    [study] = inbox.due(0)
    assert [data for _, data in study.contents()] == [corrected(radiograph("1"))]


def test_a_watched_folder_passes_over_what_came_back_into_it(parts, tmp_path) -> None:
    """An archive that exports whole studies has the objects of this program in them."""
    dropped(parts, tmp_path / "watched", {"a.dcm": radiograph("1")})
    files = {w.item.name: w.item.read_bytes() for w in parts.outbox.waiting()}
    assert len(files) >= 3
    dropped(parts, tmp_path / "watched", files)
    [study] = parts.store.studies()
    assert len(study.result.views) == 1 and len(parts.outbox.waiting()) == len(files)


def test_a_watched_folder_passes_over_what_the_system_keeps_there(tmp_path) -> None:
    watched = tmp_path / "watched"
    for name in ("Thumbs.db", "desktop.ini", "DICOMDIR", "__MACOSX/a.dcm", ".hidden", "a.dcm"):
        (watched / name).parent.mkdir(exist_ok=True)
        (watched / name).write_bytes(radiograph("1"))
    folder = WatchedFolder(watched, tmp_path / "taken.jsonl", LIMITS)
    inbox = Inbox(tmp_path / "inbox")
    assert [folder.poll(inbox), folder.poll(inbox)] == [0, 1]


def test_the_listener_follows_a_promotion(cascade, weights, tmp_path, monkeypatch) -> None:
    scorer = SimpleNamespace(cascade=cascade)
    settings = Settings(home=tmp_path, weights=weights)
    polls.follow(scorer, settings)
    assert scorer.cascade is cascade  # the same release: nothing is loaded
    scorer.cascade = SimpleNamespace(release=SimpleNamespace(id="old", sha256="0" * 64))
    polls.follow(scorer, settings)
    assert scorer.cascade.release.sha256 == cascade.release.sha256
    before = scorer.cascade
    polls.follow(scorer, Settings(home=tmp_path, weights=tmp_path / "none"))
    assert scorer.cascade is before  # what is there goes on


def test_the_listener_removes_what_is_past_its_time(tmp_path, monkeypatch, caplog) -> None:
    purged = []

    def purge() -> None:
        purged.append(1)
        raise StoreUnavailable("The database is locked.")

    def work(inbox, scorer, quiet, stop, polls) -> None:
        for poll in (*polls, *polls):
            poll()

    scorer = SimpleNamespace(store=SimpleNamespace(purge=purge))
    monkeypatch.setattr(listen, "_scorer", lambda *_: scorer)
    monkeypatch.setattr(listen, "_on_signal", lambda *_: None)
    monkeypatch.setattr(polls, "follow", lambda *_: None)
    monkeypatch.setattr(service, "keep_sending", lambda *_: None)
    monkeypatch.setattr(service, "work", work)
    options = SimpleNamespace(folder=None, sign_for=None, send_to=[], quiet=0)
    settings, outbox = Settings(home=tmp_path), SimpleNamespace(destinations=dict)
    assert listen._run(options, settings, None, outbox, None, threading.Event()) == 0
    assert len(purged) == 1  # an hour later again, and nothing else was held up
    assert "past its time could not be removed" in caplog.text
