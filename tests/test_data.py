"""Data sets from imitations of their layouts; leaks, copies, splits and damaged files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from core import film, imaging
from core.pipeline import read_and_diagnose
from core.settings import ROOT, ImageLimits
from core.transforms import framed
from tests import simulated, small, tiny
from training import camera, data, duplicates, fit, scoring, sources
from training.__main__ import main
from training.sources import split_of


def radiograph(seed: int, height: int = 120, width: int = 100) -> NDArray[np.uint8]:
    """HxW uint8: strokes and discs that are others for each seed, over weak noise."""
    rng = np.random.default_rng(seed)
    grey = np.full((240, 200), 20, np.uint8)
    for _ in range(12):
        x0, y0, x1, y1 = (int(v) for v in rng.integers(0, 200, 4))
        cv2.line(grey, (x0, y0), (x1, y1), int(rng.integers(60, 220)), int(rng.integers(3, 16)))
        cv2.circle(grey, (x1, y0), int(rng.integers(4, 25)), int(rng.integers(40, 250)), -1)
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.add(grey, rng.integers(0, 4, grey.shape).astype(np.uint8))


def save(path: Path, pixels: NDArray[np.uint8] | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(pixels, bytes):
        path.write_bytes(pixels)
    else:
        assert cv2.imwrite(str(path), pixels)
    return path


# --- pictures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A radiograph, and a photograph of its film whose box is that of the radiograph."""
    folder = tmp_path_factory.mktemp("films")
    grey = imaging.read(ROOT / "samples" / "hand_pa_008.png", ImageLimits()).pixels
    save(folder / "plain.png", grey)
    easy = camera.Settings(side=900, exif=1.0)
    taken = camera.photograph(grey, camera.Carrier.FILM, 1, easy)
    save(folder / "taken.jpg", taken.data)
    corners = tuple(map(tuple, taken.corners / taken.size[::-1]))
    box = film.in_photograph((0.4, 0.3, 0.6, 0.5), corners)
    there = " ".join(f"{v:.4f}" for v in box)
    lines = ["id,source,part,positive,boxes,file", "a,s,hand,1,0.4 0.3 0.6 0.5,plain.png"]
    lines += [f"b,s,hand,1,{there};0 0 0.01 0.01,taken.jpg"]
    (folder / "own.csv").write_text("\n".join(lines))
    return folder


def test_of_a_photograph_the_film_is_seen_and_a_radiograph_stays_as_it_is(films):
    """As `predict` and the page have them; figures were those of photographs as a whole."""
    spec, limits = fit.Preprocessing(size=96), ImageLimits()
    rows = data.read(f"manifest:{films / 'own.csv'}")
    kept, canvases = data.load_canvases(rows, spec)
    plain, whole = (imaging.read(p, limits) for p in rows.path)
    assert np.array_equal(data.read_picture(rows.path[0], limits).pixels, plain.pixels)
    assert np.array_equal(canvases[0], framed(plain.pixels, spec)[0])
    seen = film.as_seen(whole)
    assert seen.photograph.corners and np.array_equal(canvases[1], framed(seen.pixels, spec)[0])
    assert (kept.height[1], kept.width[1]) == seen.pixels.shape != whole.pixels.shape
    assert kept.boxes[0] == rows.boxes[0]
    box = [float(v) for v in kept.boxes[1].split()]  # one of two: the other lies beside the film
    assert box == pytest.approx([0.4, 0.3, 0.6, 0.5], abs=0.04)
    first, second = data.radiographs(rows, film.Wish.AS_TAKEN)
    assert np.array_equal(second[1].pixels, whole.pixels) and second[0].boxes == rows.boxes[1]
    assert np.array_equal(first[1].pixels, plain.pixels)
    prints = duplicates.look(rows.path.tolist())
    small = cv2.resize(seen.pixels, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(prints.bits[1], duplicates.difference_hash(duplicates._stretched(small)))


def test_a_photograph_is_measured_as_it_is_diagnosed(films, cascade):
    rows = data.read(f"manifest:{films / 'own.csv'}")
    rows = pd.concat([rows, rows.head(1).assign(path=str(films / "away.png"), id="c")])
    scored = scoring.predict(cascade, rows)
    assert scored.id.tolist() == ["a", "b"]  # what cannot be read is left out
    for row in scored.itertuples():
        _, result = read_and_diagnose(cascade, Path(row.path), ImageLimits())
        assert (row.named, row.sureness) == (result.body_part.label, result.body_part.probability)


def test_the_limits_of_the_program_are_those_of_training(films, monkeypatch, caplog):
    monkeypatch.setenv("BONE_MAX_SIDE", "200")
    rows = data.read(f"manifest:{films / 'own.csv'}")
    assert list(data.radiographs(rows)) == [] and caplog.text.count("left out") == 2
    assert len(data.load_canvases(rows, fit.Preprocessing(size=32))[0]) == 0
    assert (duplicates.look(rows.path.tolist()).reason != "").all()


# --- MURA --------------------------------------------------------------------------------------

REGIONS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")


def write_mura(folder: Path, patients: int = 80) -> Path:
    """MURA-v1.1 in small: of each patient of train two studies, of each of valid one.

    Regions and labels take turns within train, val and test, so that each has every kind.
    """
    root, seed, turn = folder / "MURA-v1.1", 0, {"train": 0, "val": 0, "test": 0}
    for name, first, last in (("train", 1, patients), ("valid", 10_001, 10_014)):
        paths, studies = [], []
        for number in range(first, last + 1):
            held_out = split_of(f"mura/patient{number:05}") == "val"
            split = "test" if name == "valid" else "val" if held_out else "train"
            for study in (1, 2) if name == "train" else (1,):
                region, positive = REGIONS[turn[split] % 7], turn[split] // 7 % 2
                turn[split] += 1
                label = "positive" if positive else "negative"
                where = f"{name}/XR_{region}/patient{number:05}/study{study}_{label}"
                studies.append((f"MURA-v1.1/{where}/", positive))
                for image in (1, 2)[:study]:
                    seed += 1
                    save(root / where / f"image{image}.png", radiograph(seed, 60, 50))
                    paths.append(f"MURA-v1.1/{where}/image{image}.png")
        pd.Series(paths).to_csv(root / f"{name}_image_paths.csv", header=False, index=False)
        listed = pd.DataFrame(studies)
        listed.to_csv(root / f"{name}_labeled_studies.csv", header=False, index=False)
    return root


@pytest.fixture(scope="module")
def mura(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mura(tmp_path_factory.mktemp("mura"))


def test_mura_as_it_is_downloaded(mura):
    rows = data.read(f"mura:{mura}")
    assert tuple(rows.columns) == data.COLUMNS
    assert len(rows) == 80 * 3 + 14
    assert set(rows.region) == {f"XR_{r}" for r in REGIONS}
    hand = rows[rows.part == "hand"]
    assert set(hand.region) == {"XR_FINGER", "XR_HAND", "XR_WRIST"}
    assert set(rows.part) == {"elbow", "hand", "shoulder", "forearm", "humerus"}
    assert set(rows.positive_means) == {"abnormality"}
    assert (rows.positive == rows.path.str.contains("_positive")).all()
    assert all(Path(p).exists() for p in rows.path)
    pd.testing.assert_frame_equal(rows, data.read(f"mura:{mura.parent}").assign(path=rows.path))


def test_the_official_valid_set_is_test_and_val_is_cut_from_train(mura):
    rows = data.read(f"mura:{mura}")
    assert ((rows.split == "test") == rows.id.str.startswith("valid/")).all()
    train = rows[rows.split != "test"]
    assert (train.groupby("patient").split.nunique() == 1).all()
    assert set(train.split) == {"train", "val"}
    assert rows.study.nunique() == 80 * 2 + 14
    assert (rows.groupby("study").positive.nunique() == 1).all()


def test_mura_without_a_list_or_a_label_is_refused(tmp_path):
    root = write_mura(tmp_path, 3)
    labels = root / "train_labeled_studies.csv"
    lines = labels.read_text().splitlines(keepends=True)
    labels.write_text("".join(lines[1:]))
    with pytest.raises(data.DataInvalid, match="1 pictures have no label"):
        data.read(f"mura:{root}")
    labels.unlink()
    with pytest.raises(data.DataInvalid, match="is missing"):
        data.read(f"mura:{root}")


# --- FracAtlas ---------------------------------------------------------------------------------

FRACATLAS = """\
image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,\
fractured,fracture_count,frontal,lateral,oblique
IMG0000005.jpg,0,1,0,0,0,0,0,0,0,0,1,0
IMG0000006.jpg,1,0,0,0,0,0,0,1,1,1,0,0
IMG0000007.jpg,1,0,0,0,0,1,1,0,0,1,1,0
IMG0000008.jpg,0,1,0,0,0,0,0,0,0,0,1,0
IMG0000011.jpg,1,0,0,1,1,0,0,0,0,1,0,0
IMG0000012.jpg,0,0,0,1,0,0,0,0,0,1,0,0
IMG0000013.jpg,0,1,1,0,1,0,0,1,2,1,0,0
IMG0000030.jpg,1,0,0,0,0,0,0,0,0,1,0,0
"""


def test_fracatlas_as_it_is_downloaded(tmp_path):
    (tmp_path / "dataset.csv").write_text(FRACATLAS)
    boxes = tmp_path / "Annotations" / "YOLO" / "IMG0000006.txt"
    save(boxes, b"0 0.5 0.4 0.2 0.1\n0 0.1 0.1 0.2 0.2\n")
    rows = data.read(f"fracatlas:{tmp_path}")
    assert tuple(rows.columns) == data.COLUMNS
    # 6 and 30 are in the list of what was read by eye, 7 is not
    parts = ["leg", "elbow", "mixed", "leg", "arm_with_shoulder", "shoulder", "mixed", "hand"]
    assert rows.part.tolist() == parts
    assert rows.positive.tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    assert set(rows.positive_means) == {"fracture"}
    assert rows["view"].iloc[2] == "frontal lateral"
    assert rows.hardware.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert rows.region.iloc[6] == "leg hip"
    assert rows.boxes.iloc[1] == "0.4000 0.3500 0.6000 0.4500;0.0000 0.0000 0.2000 0.2000"
    assert rows.boxes.isna().sum() == 7
    assert rows.patient.iloc[1] == rows.patient.iloc[2] == "fracatlas/run IMG0000006.jpg"
    assert rows.patient.nunique() == 7
    assert Path(rows.path[1]) == tmp_path / "images" / "Fractured" / "IMG0000006.jpg"
    assert Path(rows.path[0]).parent.name == "Non_fractured"


def test_fracatlas_without_its_columns_is_refused(tmp_path):
    with pytest.raises(data.DataInvalid, match="is missing"):
        data.read(f"fracatlas:{tmp_path}")
    (tmp_path / "dataset.csv").write_text("image_id,hand\n")
    with pytest.raises(data.DataInvalid, match="fractured"):
        data.read(f"fracatlas:{tmp_path}")


# --- a folder ----------------------------------------------------------------------------------


def dicom(seed: int, patient: str, study: str = "1.2.3") -> bytes:
    pixels = radiograph(seed)
    return simulated.part10(
        simulated.dataset(pixels, PatientID=patient, StudyInstanceUID=study, ViewPosition="AP")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "clinic"
    save(root / "elbow" / "fractured" / "patient0042_study1_a.png", radiograph(1))
    save(root / "hand" / "Normal" / "p42-2.png", radiograph(2))
    save(root / "wrist" / "normal" / "jane" / "a.png", radiograph(3))
    save(root / "wrist" / "normal" / "jane" / "b.png", radiograph(4))
    save(root / "shoulder" / "normal" / "a.png", radiograph(5))
    save(root / "shoulder" / "normal" / "b.png", radiograph(6))
    save(root / "shoulder" / "fractured" / "IM1", dicom(7, "SECRET-42"))
    save(root / "shoulder" / "fractured" / "IM2", dicom(8, "SECRET-42"))
    save(root / "elbow" / "normal" / ".DS_Store", b"hidden")
    return root


def test_a_folder_of_png_and_dicom(folder):
    rows = data.read(f"folder:{folder}").set_index("id")
    assert len(rows) == 8
    assert set(rows.source) == {"clinic"}
    assert rows.patient["elbow/fractured/patient0042_study1_a.png"] == "clinic/42"
    assert rows.patient["hand/Normal/p42-2.png"] == "clinic/42"
    assert rows.patient["wrist/normal/jane/a.png"] == "clinic/jane"
    assert rows.part["wrist/normal/jane/a.png"] == "hand"
    assert rows.region["wrist/normal/jane/a.png"] == "wrist"
    assert rows.patient["shoulder/normal/a.png"] != rows.patient["shoulder/normal/b.png"]
    first, second = rows.loc["shoulder/fractured/IM1"], rows.loc["shoulder/fractured/IM2"]
    assert first.patient == second.patient
    assert first.study == second.study
    assert first["view"] == "AP"
    assert first.positive == 1 and rows.positive["shoulder/normal/a.png"] == 0
    kept, canvases = data.load_canvases(rows.reset_index(), fit.Preprocessing(size=32))
    assert len(kept) == len(canvases) == 8


def test_what_the_system_keeps_in_a_folder_is_no_picture(tmp_path):
    names = ("Thumbs.db", "hand/Thumbs.db", "hand/normal/Thumbs.db", "hand/normal/p1/desktop.ini")
    names += ("__MACOSX/hand/normal/a.png", "hand/normal/__MACOSX/a.png", "hand/normal/DICOMDIR")
    names += ("hand/normal/p1/@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "#recycle/hand/normal/a.png")
    names += ("$RECYCLE.BIN/hand/normal/a.png", "hand/lost+found/a.png", "hand/normal/#snapshot/a")
    names += ("System Volume Information/hand/normal/a.png",)
    for name in (*names, "hand/normal/a.png", "hand/fractured/b.png"):
        save(tmp_path / name, b"x")
    found = sources.read_folder(tmp_path)
    assert sorted(found.id) == ["hand/fractured/b.png", "hand/normal/a.png"]


def test_a_page_or_projection_is_no_patient(tmp_path):
    """What says "p1" in a file's name: the folder says whose it is, and no folder nothing."""
    names = ("0041/p1.png", "0041/p2.png", "0042/p1.png", "123_P2.png", "456_P2.png")
    names += ("P7/a_p1.png", "frontal/patient0009_p1.png", "site_pat_12_p1.png", "p13-2.png")
    for name in names:
        save(tmp_path / "clinic" / "elbow" / "fractured" / name, b"x")
    rows = sources.read_folder(tmp_path / "clinic").set_index("id").patient.fillna("")
    found = {k.removeprefix("elbow/fractured/"): p for k, p in rows.items()}
    assert found == {
        "0041/p1.png": "0041",
        "0041/p2.png": "0041",
        "0042/p1.png": "0042",
        "123_P2.png": "",  # a patient of its own
        "456_P2.png": "",
        "P7/a_p1.png": "7",
        "frontal/patient0009_p1.png": "9",
        "site_pat_12_p1.png": "12",
        "p13-2.png": "13",
    }


def test_no_patient_id_of_a_dicom_file_is_kept(folder):
    assert "SECRET" not in data.read(f"folder:{folder}").drop(columns="path").to_csv()


def test_a_patient_of_dicom_headers_is_one_whatever_the_folder_is_called(tmp_path):
    """Two years of one archive: a patient of both was train in one and test in the other."""
    for year in ("2024", "2025"):
        for k in range(8):
            save(tmp_path / year / "elbow" / "normal" / f"{k}.dcm", dicom(k, f"MRN{k}"))
    rows = data.read_all([f"folder:{tmp_path / year}" for year in ("2024", "2025")])
    assert rows.patient.nunique() == 8 and rows.patient.str.startswith("dicom/").all()
    before = rows[rows.source == "2024"].split.tolist()
    assert len({*before}) > 1 and before == rows[rows.source == "2025"].split.tolist()
    (tmp_path / "2024").rename(tmp_path / "first")
    assert data.read(f"folder:{tmp_path / 'first'}").split.tolist() == before


def test_inside_of_the_roots_nothing_else_is_read(tmp_path, caplog):
    """Neither a list elsewhere, nor a picture that a list or a link points to elsewhere."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for name in ("inside/a.png", "outside/b.png"):
        save(tmp_path / name, radiograph(1))
    (inside / "link.png").symlink_to(outside / "b.png")
    files = ("a.png", "link.png", "../outside/b.png", str(outside / "b.png"))
    lines = [f"{k},s,elbow,{file}\n" for k, file in enumerate(files)]
    for folder in (inside, outside):
        (folder / "own.csv").write_text("id,source,part,file\n" + "".join(lines))
    spec = fit.Preprocessing(size=32)
    assert len(data.load_canvases(data.read(f"manifest:{inside / 'own.csv'}"), spec)[0]) == 4
    with data.confined([inside]):
        rows = data.read(f"manifest:{inside / 'own.csv'}")
        assert len(rows) == 4 and "3 pictures are away, or not in a folder" in caplog.text
        assert data.load_canvases(rows, spec)[0].id.tolist() == ["0"]
        assert "3 of 4 pictures could not be read" in caplog.text
        with pytest.raises(data.DataInvalid, match="not inside a folder that may be read"):
            data.read(f"manifest:{outside / 'own.csv'}")
    assert len(data.load_canvases(data.read(f"manifest:{inside / 'own.csv'}"), spec)[0]) == 4


@pytest.mark.parametrize("name", ["elbow/maybe/a.png", "elbow/a.png"])
def test_a_folder_of_another_kind_is_refused(tmp_path, name):
    save(tmp_path / name, radiograph(0))
    with pytest.raises(data.DataInvalid, match="fractured or normal"):
        data.read(f"folder:{tmp_path}")


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(data.DataInvalid, match="no pictures"):
        data.read(f"folder:{tmp_path}")
    with pytest.raises(data.DataInvalid, match="not a folder"):
        data.read(f"folder:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("what", ["mura", "mura:", "zip:a.zip"])
def test_an_unknown_kind_is_refused(what):
    with pytest.raises(data.DataInvalid, match="expected one of"):
        data.read(what)


# --- splits ------------------------------------------------------------------------------------


def test_splits_are_about_80_10_10_and_depend_on_the_patient_alone():
    shares = pd.Series([split_of(f"clinic/{n}") for n in range(5000)]).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.02)
    assert shares["val"] == pytest.approx(0.1, abs=0.02)
    assert split_of("clinic/42") == "val"  # the same on every machine and in every version


def test_adding_data_moves_nobody(folder, mura):
    before = data.read(f"folder:{folder}").set_index("id").split
    for n in range(20):
        save(folder / "elbow" / "fractured" / f"patient{n}.png", radiograph(100 + n))
    together = data.read_all([f"mura:{mura}", f"folder:{folder}"])
    after = together[together.source == "clinic"].set_index("id").split
    pd.testing.assert_series_equal(after[before.index], before)
    assert len(after) == 28


def test_patients_of_two_sources_do_not_collide(tmp_path):
    for name, part in (("one", "elbow"), ("two", "hand")):
        save(tmp_path / name / part / "normal" / "patient7.png", radiograph(1))
    rows = data.read_all([f"folder:{tmp_path / 'one'}", f"folder:{tmp_path / 'two'}"])
    assert rows.patient.tolist() == ["one/7", "two/7"]
    with pytest.raises(data.DataInvalid, match="1 pictures are listed twice"):
        data.read_all([f"folder:{tmp_path / 'one'}"] * 2)


def write_manifest(folder: Path, rows: Iterable[dict[str, object]]) -> str:
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return f"manifest:{folder / 'manifest.csv'}"


def test_a_manifest_without_groups_and_splits(tmp_path):
    row = {"source": "s", "part": "elbow", "positive": 1}
    rows = data.read(write_manifest(tmp_path, [row | {"id": i} for i in "abc"]))
    assert rows.patient.tolist() == ["s/a", "s/b", "s/c"]
    assert rows.split.tolist() == [split_of(p) for p in rows.patient]


def test_a_manifest_with_strange_values_is_refused(tmp_path):
    row = {"id": "a", "source": "s", "part": "elbow"}
    for strange in ({"positive": 2}, {"positive": "yes"}, {"positive": 1, "split": "valid"}):
        with pytest.raises(data.DataInvalid):
            data.read(write_manifest(tmp_path, [row | strange]))
    with pytest.raises(data.DataInvalid, match="part"):
        data.read(write_manifest(tmp_path, [{"id": "a", "source": "s"}]))


def test_mura_studies_are_read_from_the_ids_of_a_manifest(tmp_path):
    ids = ("mura_forearm_p00063_s1_i1", "mura_forearm_p00063_s1_i2", "fa_0001")
    row = {"source": "s", "part": "forearm", "positive": 1, "group": "p", "split": "train"}
    rows = data.read(write_manifest(tmp_path, [row | {"id": i} for i in ids]))
    assert rows.study[0] == rows.study[1] == "mura_forearm_p00063_s1"
    assert rows.study.isna().tolist() == [False, False, True]


def test_a_patient_in_two_splits_is_refused(tmp_path):
    row = {"source": "s", "part": "elbow", "positive": 1, "group": "p"}
    leaky = [row | {"id": "a", "split": "train"}, row | {"id": "b", "split": "test"}]
    where = write_manifest(tmp_path, leaky)
    with pytest.raises(data.DataInvalid, match="1 patients"):
        data.read(where)
    assert len(data.gather([where])) == 2


# --- copies ------------------------------------------------------------------------------------


def jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def marked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.putText(pixels.copy(), "L", (4, 20), 0, 0.6, 255, 2)


def cut_off(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    broken = pixels.copy()
    broken[int(0.6 * len(broken)) :] = 128
    return broken


def darker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (255 * (pixels / 255.0) ** 1.5).astype(np.uint8)


NEAR = {
    "smaller": lambda p: cv2.resize(p, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
    "jpeg": lambda p: jpeg(p, 60),
    "darker": darker,
    "marked": marked,
    "cut off": cut_off,
}


@pytest.mark.parametrize("change", NEAR.values(), ids=NEAR.keys())
def test_a_near_copy_is_found(tmp_path, change):
    pictures = [radiograph(n, 240, 200) for n in range(40)]
    pictures.append(np.ascontiguousarray(change(pictures[17])))
    paths = [str(save(tmp_path / f"{n}.png", p)) for n, p in enumerate(pictures)]
    i, j, alike = duplicates.near_pairs(duplicates.look(paths))
    assert (i.tolist(), j.tolist()) == ([17], [40])
    assert alike[0] >= duplicates.LIKENESS


def test_blank_pictures_are_no_near_copies(tmp_path):
    blank = [np.full((64, 64), v, np.uint8) for v in (0, 0, 128, 255)]
    paths = [str(save(tmp_path / f"{n}.png", p)) for n, p in enumerate(blank)]
    assert len(duplicates.near_pairs(duplicates.look(paths))[0]) == 0


@pytest.fixture
def leaky(tmp_path: Path) -> str:
    """Four patients: p of train is in test as a copy, q of train in val as the same file."""
    pictures = {
        "p1": ("p", "train", radiograph(1)), "p2": ("p", "train", radiograph(2)),
        "q1": ("q", "train", radiograph(3)), "r1": ("r", "train", radiograph(4)),
        "r2": ("r", "train", radiograph(4)), "v1": ("v", "val", radiograph(3)),
        "v2": ("v", "val", radiograph(5)), "t1": ("t", "test", marked(radiograph(1))),
    }  # fmt: skip
    rows = []
    for name, (patient, split, pixels) in pictures.items():
        # lossless, as OpenCV's default for WebP is
        save(tmp_path / "images" / "s" / f"{name}.webp", pixels)
        row = {"id": name, "source": "s", "part": "hand", "positive": 0, "group": patient}
        rows.append(row | {"split": split, "positive_means": "fracture"})
    return write_manifest(tmp_path, rows)


def test_pictures_of_a_patient_whose_copy_is_nearer_to_test_are_left_out(leaky, tmp_path):
    rows = data.read(leaky)
    assert duplicates.settle(rows).id.tolist() == ["r1", "r2", "v1", "v2", "t1"]
    assert len(duplicates.settle(rows, "keep")) == 8
    with pytest.raises(data.DataInvalid, match=r"2 radiographs .* \(1 as the same file\)"):
        duplicates.settle(rows, "refuse")
    settled = duplicates.settle(rows)
    assert duplicates.settle(settled, "refuse") is settled
    listed = tmp_path / "run" / "rows.csv"
    listed.parent.mkdir()
    assert duplicates.settle_once(rows, listed).id.tolist() == settled.id.tolist()
    assert duplicates.settle_once(rows, listed, "refuse").id.tolist() == settled.id.tolist()
    with pytest.raises(data.DataInvalid, match="holds a run on other pictures"):
        duplicates.settle_once(rows.assign(source="elsewhere"), listed)
    some = rows[rows.split == "train"]
    assert duplicates.settle_once(some, listed).id.tolist() == ["r1", "r2"]
    more = pd.concat([rows, rows[-1:].assign(id="t2")])
    with pytest.raises(data.DataInvalid, match="1 of 9 are not among its own"):
        duplicates.settle_once(more, listed)
    settled[["source", "id", "split"]].to_csv(listed, index=False)  # as an earlier version wrote it
    assert duplicates.settle_once(rows, listed).id.tolist() == settled.id.tolist()
    with pytest.raises(data.DataInvalid, match="holds a run on other pictures"):
        duplicates.settle_once(rows.assign(source="elsewhere"), listed)
    with pytest.raises(ValueError, match="maybe"):
        duplicates.settle(rows, "maybe")


def test_what_could_not_be_read_is_left_out_for_good(leaky, tmp_path, caplog):
    """It was listed as compared, and its copies crossed the splits once it could be read again."""
    rows, listed = data.read(leaky), tmp_path / "rows.csv"
    away = {Path(p): Path(p).with_suffix(".away") for p in rows.path[rows.id.isin(("t1", "v1"))]}
    for path, elsewhere in away.items():
        path.rename(elsewhere)
    assert duplicates.settle(rows).id.tolist() == ["p1", "p2", "q1", "r1", "r2", "v2"]
    found = [*duplicates.settle_once(rows, listed).id]
    for path, elsewhere in away.items():
        elsewhere.rename(path)
    caplog.clear()
    assert duplicates.settle_once(rows, listed).id.tolist() == found
    assert found == ["p1", "p2", "q1", "r1", "r2", "v2"] and "2 of 8 pictures" in caplog.text
    assert ("s", "v1") not in duplicates.names_taught(listed)
    rows["path"] = [f"{p}.away" for p in rows.path]
    listed.unlink()
    with pytest.raises(data.DataInvalid, match="None of 8 pictures can be read"):
        duplicates.settle_once(rows, listed)
    assert not listed.exists()


def test_the_command_counts_what_is_there(leaky, tmp_path, capsys):
    save(tmp_path / "images" / "s" / "v2.webp", b"RIFF")
    (tmp_path / "images" / "s" / "r2.webp").unlink()
    out = tmp_path / "out" / "rows.csv"
    assert main(["data", "--data", leaky, "--out", str(out)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "8 pictures of 5 patients" in text
    assert f"split SHA-256 {data.split_hash(data.read(leaky))}" in text
    assert "patients in more than one split: 0" in text
    assert "unreadable: 2 1 x The file does not exist." in text
    assert "radiographs 1 2" in text
    assert "in several splits 1 2" in text
    assert "hand s fracture negative 5 2 1" in text
    assert "2 of train" not in text and "3 of train, 0 of val, 0 of test" in text
    listed = pd.read_csv(out).set_index("id")
    assert listed.unreadable.notna().sum() == 2
    assert listed.radiograph["p1"] == listed.radiograph["t1"]
    assert listed.left_out.sum() == 3


def test_the_command_tells_a_patient_in_two_splits(leaky, tmp_path, capsys):
    path = tmp_path / "manifest.csv"
    rows = pd.read_csv(path)
    rows.loc[rows.id == "t1", "group"] = "p"
    rows.to_csv(path, index=False)
    assert main(["data", "--data", leaky]) == 0
    assert "in more than one split: 1 (training refuses)" in capsys.readouterr().out
    assert main(["data", "--data", "mura:nowhere"]) == 1
    assert "is missing" in capsys.readouterr().err


def test_a_damaged_picture_is_counted_and_left_out(mura, caplog):
    rows = data.read(f"mura:{mura}").head(4).copy()
    rows.loc[2, "path"] = str(save(mura.parent / "bad.png", b"\x89PNG\r\n\x1a\n"))
    kept, canvases = data.load_canvases(rows, fit.Preprocessing(size=32))
    assert len(kept) == len(canvases) == 3
    assert "1 of 4 pictures could not be read" in caplog.text


def test_the_drawn_pictures_of_the_other_tests_are_no_copies(tmp_path):
    rows = data.read(f"manifest:{tiny.write(tmp_path, 2)}")
    assert len(duplicates.settle(rows, "refuse")) == len(rows)


def test_a_run_on_mura_comes_to_its_end(mura, tmp_path):
    settings = fit.Settings(
        data=(f"mura:{mura}",), out=str(tmp_path), size=64, joint_passes=16, branch_passes=8,
        body_part_passes=8,
        batch=8, validations=1, device="cpu",
    )  # fmt: skip
    with small.runs():
        assert fit.Run(settings).fit().exists()
    hashed = data.split_hash(data.read(f"mura:{mura}"))
    assert hashed in (tmp_path / "config.toml").read_text()
    assert math.isfinite(pd.read_json(tmp_path / "events.jsonl", lines=True).loss.iloc[-1])
