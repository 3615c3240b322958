"""Copies for training hold the picture and nothing that tells whose it is; nor do log and audit."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import compress
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from core import imaging, report
from core.cascade import Cascade
from core.pacs.deidentify import TrainingCopies, deidentified
from core.pacs.inbox import Inbox
from core.pacs.outbox import Outbox
from core.pacs.scoring import StudyScorer
from core.pacs.service import score_one
from core.settings import ImageLimits, Settings
from core.store import Opinion, Store, Verdict, export
from core.types import BodyPart, Finding
from tests.listening import listening, storescu
from tests.ports import free_port
from tests.simulated import dataset, part10, phantom
from tests.waiting import eventually

LIMITS = ImageLimits()
dcmtk = pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")
MARKER = "ZQMARKER"
GREY = phantom(64, 56, bits=12)
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT")
# What the picture itself cannot do without.
NEEDED = ("PhotometricInterpretation", "SpecificCharacterSet", "BurnedInAnnotation")


def marked(**attributes: object) -> bytes:
    """A radiograph with the marker in every text attribute of the standard, and in private ones."""
    ds = dataset(GREY, BitsStored=12, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in TEXT and tag >> 16 > 7 and keyword and not retired and keyword not in NEEDED:
            ds.add_new(tag, vr, MARKER)
    ds.SOPInstanceUID, ds.PatientID = "1.2.3.4.5", MARKER
    block = ds.private_block(0x0011, MARKER, create=True)
    block.add_new(1, "LO", MARKER)
    item = Dataset()
    item.CodeMeaning = item.PatientName = MARKER
    ds.RequestAttributesSequence = [item]
    ds.VOILUTSequence = [lut()]
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return part10(ds)


def lut() -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTExplanation = [4096, 0, 12], MARKER
    item.LUTData = np.arange(4096, dtype="<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


@pytest.mark.filterwarnings("ignore")
def test_the_marker_is_nowhere(
    cascade: Cascade, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = marked()
    assert data.count(MARKER.encode()) > 1000
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # as `core listen` does
    logging.getLogger("highdicom").setLevel(logging.CRITICAL)
    inbox, store = Inbox(tmp_path / "inbox"), Store.open(Settings(home=tmp_path))
    copies = TrainingCopies(tmp_path / "copies", tmp_path / "key")
    outbox = Outbox(tmp_path / "outbox")
    scorer = StudyScorer(cascade, store, outbox, LIMITS, ["X@localhost:104"], copies)
    inbox.put("1.2.3", "1.2.3.4.5.dcm", data)
    [study] = inbox.due(0)
    score_one(inbox, scorer, study)
    assert not list(inbox.due(0)) and len(store.worklist()) == 1
    assert len(outbox.waiting()) >= 3
    [copy] = (tmp_path / "copies").rglob("*.dcm")
    assert MARKER.encode() not in copy.read_bytes()
    assert MARKER not in str(copy) and MARKER not in caplog.text
    assert MARKER not in repr(store.audit_lines()) and MARKER not in repr(store.worklist())
    store.close()


@pytest.mark.parametrize("trouble", [OSError(28, "No space left", "x"), ValueError("Doe")])
def test_a_copy_that_cannot_be_kept_costs_no_result(
    cascade: Cascade, tmp_path: Path, monkeypatch, caplog, trouble: Exception
) -> None:
    inbox, store = Inbox(tmp_path / "inbox"), Store.open(Settings(home=tmp_path))
    outbox = Outbox(tmp_path / "outbox")
    copies = TrainingCopies(tmp_path / "copies", tmp_path / "key")
    tried: list[tuple[int, int]] = []

    def fails(*_: object) -> None:
        tried.append((len(store.worklist()), len(outbox.waiting())))
        raise trouble

    monkeypatch.setattr(copies, "keep", fails)
    scorer = StudyScorer(cascade, store, outbox, LIMITS, ["X@localhost:104"], copies)
    for n in (1, 2):
        inbox.put("1.2.3", f"{n}.dcm", picture(n))
    [study] = inbox.due(0)
    assert score_one(inbox, scorer, study) and not list(inbox.due(0))
    assert len(tried) == 2 and tried[0] == (1, len(outbox.waiting())) and outbox.waiting()
    assert caplog.text.count("could not be kept") == 2 and "Doe" not in caplog.text
    store.close()


def picture(number: int) -> bytes:
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
    grey = phantom(64, 56, bits=12, seed=number)
    return part10(dataset(grey, BitsStored=12, SOPInstanceUID=f"1.2.3.4.{number}", **uids))


def test_the_class_of_a_copy_is_that_of_its_file(tmp_path: Path) -> None:
    copies = TrainingCopies(tmp_path / "copies", tmp_path / "key")
    original = pydicom.dcmread(io.BytesIO(picture(1)))
    kind = original.SOPClassUID
    del original.SOPClassUID
    assert original.file_meta.MediaStorageSOPClassUID == kind
    file = io.BytesIO()
    original.save_as(file)
    path = copies.keep(file.getvalue(), LIMITS)
    assert path is not None and pydicom.dcmread(path).SOPClassUID == kind
    del original.file_meta.MediaStorageSOPClassUID
    assert deidentified(original, b"key") is None


@dcmtk
def test_the_marker_is_in_no_log_and_no_export_of_a_real_listener(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sent by dcmtk, assessed, signed by a reader and given to an archive that takes nothing."""
    home, sent = tmp_path / "listening", tmp_path / "sent.dcm"
    sent.write_bytes(marked(SOPInstanceUID="1.2.3.4.5"))
    options = ["--send-to", f"X@127.0.0.1:{free_port()}", "--sign-for", "Clinic"]
    options += ["--sign-after", "0", "--training-copies", str(tmp_path / "copies")]
    with listening(weights, home, *options) as running:
        said, _ = storescu(running.port, sent).communicate(timeout=120)
        assert "Success" in said
        store = Store.open(Settings(home=home))
        [entry] = eventually(store.worklist)
        opinion = Opinion(Verdict.AGREE, BodyPart.ELBOW, Finding.SUSPECTED)
        store.decide(entry.id, "Rita", opinion, 0)
        eventually(lambda: "report.signed" in {a.event for a in store.audit_lines()})
        eventually(lambda: "does not answer" in running.log.read_text())
    log = running.log.read_text() + "".join(p.read_text() for p in home.glob("logs/*"))
    records = store.studies()
    exports = export.to_csv(records, False) + export.to_manifest(records, store.pictures)
    [view] = records[0].result.views
    made = report.StudyReport(
        records[0].result, (None,), Cascade.load(weights, device="cpu").release, records[0].added
    )
    exports += json.dumps(report.as_json(made))
    audit = repr(store.audit_lines())
    store.close()
    for what in (log, exports, audit, said):
        assert what and MARKER not in what
    for path in (tmp_path / "copies").rglob("*.dcm"):
        assert MARKER.encode() not in path.read_bytes() and MARKER not in str(path)
    assert records[0].id in exports and view.sha256 in audit + exports


def copied(tmp_path: Path, data: bytes) -> Dataset:
    path = TrainingCopies(tmp_path / "copies", tmp_path / "key").keep(data, LIMITS)
    assert path is not None
    return pydicom.dcmread(path)


@pytest.mark.filterwarnings("ignore")
def test_the_profile_is_kept_attribute_by_attribute(tmp_path: Path) -> None:
    """PS3.15 table E.1-1, as another project has it: X is gone, Z empty, D and U are others."""
    original = pydicom.dcmread(pydicom.filebase.DicomBytesIO(marked()))
    copy = copied(tmp_path, marked())
    assert {(0x0010, 0x4000), (0x0010, 0x2160)} <= set(table.X_TAGS)
    for tag in table.X_TAGS:
        if len(tag) == 2:
            assert pydicom.tag.Tag(tag) not in copy, tag
    for tags in (table.Z_TAGS, table.D_TAGS, table.U_TAGS):
        for tag in (t for t in tags if len(t) == 2):
            kept = copy.get(pydicom.tag.Tag(tag))
            was = original.get(pydicom.tag.Tag(tag))
            if kept is not None and kept.value:
                assert was is None or str(kept.value) != str(was.value), tag
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert not any(e.tag.is_private for e in copy.iterall())


def test_the_picture_is_the_same(tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    extras = {"WindowCenter": 1500, "WindowWidth": 2000}, {"VOILUTSequence": [lut()]}
    for extra in (*extras, {"PixelAspectRatio": [2, 1]}):
        ds = dataset(GREY, BitsStored=12, **uids, **extra, PhotometricInterpretation="MONOCHROME1")
        data = part10(ds)
        path = TrainingCopies(tmp_path, tmp_path / "key").keep(data, LIMITS)
        assert path is not None
        before, after = imaging.decode(data, "a", LIMITS), imaging.read(path, LIMITS)
        np.testing.assert_array_equal(before.pixels, after.pixels)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_what_stands_beside_the_values_in_their_words_goes(
    tmp_path: Path, syntax: UID, shift: int, signed: bool
) -> None:
    """An overlay may be drawn there, with a name; values may stand higher than at the bottom."""
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    values = (GREY.astype(np.int16) - 2048 * signed) & 0xFFF
    drawn = np.zeros(GREY.shape, np.uint16)
    drawn[10:20, 10:40] = 1
    words = np.stack([(values << shift) | (drawn << 15), values << shift]).astype(np.uint16)
    ds = dataset(words[0], PixelRepresentation=int(signed), NumberOfFrames=2, **uids)
    ds.BitsStored, ds.HighBit = 12, 11 + shift
    if syntax == RLELossless:
        ds.PixelData = words.tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        compress(ds, RLELossless)
    else:
        ds.PixelData = words.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()
    data = part10(ds, syntax)
    copy = copied(tmp_path, data)
    assert np.array_equal(copy.pixel_array, [GREY.astype(np.int16) - 2048 * signed] * 2)
    raw = np.frombuffer(copy.PixelData, "<i2" if copy.is_little_endian else ">i2")
    assert np.array_equal(raw.reshape(words.shape), copy.pixel_array)


def test_a_palette_is_kept_with_its_tables(tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    ds = dataset(phantom(), PhotometricInterpretation="PALETTE COLOR", **uids)
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = np.arange(0, 65536, 256, dtype="<u2")
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.tobytes())
    data = part10(ds)
    before = imaging.decode(data, "a", LIMITS).pixels
    path = TrainingCopies(tmp_path / "copies", tmp_path / "key").keep(data, LIMITS)
    np.testing.assert_array_equal(imaging.read(path, LIMITS).pixels, before)


def test_a_patient_stays_one_patient(tmp_path: Path) -> None:
    def copy(patient: str, uid: str, key: bytes = b"k") -> Dataset:
        ds = dataset(GREY, PatientID=patient, StudyInstanceUID=uid, SeriesInstanceUID=uid)
        read = pydicom.dcmread(pydicom.filebase.DicomBytesIO(part10(ds)))
        made = deidentified(read, key)
        assert made is not None
        return made

    first, second = copy("A", "1.2"), copy("A", "1.3")
    assert first.PatientID == second.PatientID != copy("B", "1.4").PatientID
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.PatientID != copy("A", "1.2", b"another key").PatientID
    assert re.fullmatch(r"2\.25\.\d+", first.StudyInstanceUID)


def test_text_in_the_picture_is_not_kept(tmp_path: Path) -> None:
    copies = TrainingCopies(tmp_path, tmp_path / "key")
    ds = dataset(GREY, BurnedInAnnotation="YES", StudyInstanceUID="1.2", SeriesInstanceUID="1.3")
    assert copies.keep(part10(ds), LIMITS) is None
    assert copies.keep(b"no DICOM", LIMITS) is None
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
