"""The simulator: its geometry is exact, its labels are true, and a seed tells everything."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

MISSING = [
    name
    for name in ("cv2", "mujoco", "myo_sim", "numba", "pydicom", "scipy")
    if importlib.util.find_spec(name) is None
]
if MISSING:
    pytest.skip(
        f"requirements-simulate.txt is not installed ({', '.join(MISSING)})",
        allow_module_level=True,
    )

import cv2  # noqa: E402
import pydicom  # noqa: E402

from core.settings import Settings  # noqa: E402
from tests.test_dicom_out import problems  # noqa: E402
from training.commands import simulate as command  # noqa: E402
from training.simulate import export, findings, physics, render  # noqa: E402
from training.simulate.anatomy import Skeleton, close, orient, subdivide  # noqa: E402
from training.simulate.parts import SUPPORTED  # noqa: E402
from training.simulate.render import Order, simulate  # noqa: E402
from training.simulate.samples import SAMPLES  # noqa: E402
from training.simulate.views import ALL_BONES, all_views  # noqa: E402

SAMPLE_FOLDER = Path(__file__).parent.parent / "samples"
SMALL = 160


def box(width: float) -> tuple[np.ndarray, np.ndarray]:
    """A cube about the origin, its faces counter-clockwise seen from outside."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners * width / 2.0, np.array(faces)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def camera(axes: np.ndarray | None = None) -> physics.Camera:
    """A source so far away that its beam is parallel; one pixel is one millimetre."""
    axes = np.eye(3) if axes is None else axes
    return physics.Camera(axes, np.zeros(3), 1e6, 1e6, 1.0, (64, 64), (32.0, 32.0))


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return Skeleton(ALL_BONES)


def test_path_through_a_cube_is_its_width() -> None:
    vertices, faces = box(20.0)
    patch = physics.path_length(camera().project(vertices), faces, (64, 64))
    picture = np.zeros((64, 64), np.float32)
    patch.add_to(picture)
    assert np.allclose(picture[23:41, 23:41], 20.0, atol=1e-2)
    assert picture.sum() == pytest.approx(20.0**3, rel=1e-3)


def test_path_through_a_ball_is_right_from_every_side() -> None:
    vertices, faces = box(2.0)
    for _ in range(5):
        vertices, faces = subdivide(vertices, faces)
    vertices = 20.0 * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    turn = findings.rotation_about(np.array([0.6, 0.8, 0.0]), 0.7)
    patch = physics.path_length(camera(turn).project(vertices), faces, (64, 64))
    assert patch.values.max() == pytest.approx(40.0, rel=0.01)
    assert patch.values.sum() == pytest.approx(4.0 / 3.0 * np.pi * 20.0**3, rel=0.01)


def test_a_hole_is_closed_and_a_turned_face_is_turned_back() -> None:
    vertices, faces = box(2.0)
    faces[3] = faces[3][::-1]
    vertices, faces, is_lid = close(vertices, orient(faces[:-2]))
    assert abs(volume(vertices, faces)) == pytest.approx(8.0)
    assert is_lid.sum() == 4


def test_fragments_together_have_the_volume_of_the_bone(skeleton: Skeleton) -> None:
    bone = skeleton.bones["radius"]
    height = findings.coordinates(bone, bone.outer)[:, 0] + 0.4 * bone.outer[:, 1]
    halves = [findings.clip(bone.outer, bone.faces, side * height)[:2] for side in (-1, 1)]
    assert sum(volume(*half) for half in halves) == pytest.approx(
        volume(bone.outer, bone.faces), rel=1e-6
    )
    assert all(volume(*half) > 0 for half in halves)


def test_marrow_lies_inside_the_bone(skeleton: Skeleton) -> None:
    for name in ("humerus", "radius", "3mc", "scaphoid", "clavicle"):
        bone = skeleton.bones[name]
        share = volume(bone.inner, bone.faces) / volume(bone.outer, bone.faces)
        assert 0.2 < share < 0.95, name


def test_same_seed_same_bytes(skeleton: Skeleton) -> None:
    order = Order(3, 5, SMALL, part="hand", positive=True)
    first, second = simulate(skeleton, order), simulate(skeleton, order)
    assert export.encode_png(export.eight_bit(first)) == export.encode_png(export.eight_bit(second))
    assert first.boxes == second.boxes and first.title == second.title
    other = simulate(skeleton, Order(4, 5, SMALL, part="hand", positive=True))
    assert other.pixels.shape != first.pixels.shape or (other.pixels != first.pixels).any()


def test_every_view_gives_a_picture(skeleton: Skeleton) -> None:
    for index, view in enumerate(all_views()):
        case = simulate(skeleton, Order(1, index, SMALL, view.part, view.name, positive=False))
        assert (case.part, case.view, case.positive) == (view.part, view.name, False)
        assert max(case.pixels.shape) == SMALL
        assert case.pixels.max() <= render.MAX_GREY
        assert len(np.unique(case.pixels)) > 100, view


@pytest.mark.parametrize("part", findings.SITES)
def test_labels_are_true(skeleton: Skeleton, part: str) -> None:
    for index in range(3):
        case = simulate(skeleton, Order(9, index, SMALL, part, positive=True))
        assert case.finding and len(case.boxes) == 1
        x0, y0, x1, y1 = case.boxes[0]
        assert 0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0
        rows, cols = np.nonzero(case.mask)
        height, width = case.mask.shape
        assert cols.min() / width == x0 and (rows.max() + 1) / height == y1
        case = simulate(skeleton, Order(9, index, SMALL, part, positive=False))
        assert not case.finding and not case.boxes and not case.mask.any()


def test_what_is_there_to_be_refused_is_sound_unless_it_is_asked_for(skeleton: Skeleton) -> None:
    seen = 0
    for index in range(60):
        order = Order(2, index, SMALL)
        if render.choose_view(order, np.random.default_rng((2, index))).part not in SUPPORTED:
            case = simulate(skeleton, order)
            seen += 1
            assert case.part not in SUPPORTED and not case.positive
    assert seen > 3


def test_a_crack_changes_the_picture_in_its_box_and_a_bare_bone_has_none(
    skeleton: Skeleton,
) -> None:
    order = Order(2, 0, 256, "elbow", "AP", positive=True, severity=0.5)
    scene = render.draw_scene(skeleton, order, np.random.default_rng(0))
    assert scene.fracture is not None
    assert render.is_visible(scene.pose, scene.camera, scene.fracture)
    none = findings.replace(scene.fracture.cut, gap=0.0)
    still = findings.replace(scene.fracture, cut=none, rotation=np.eye(3), shift=np.zeros(3))
    assert not render.is_visible(scene.pose, scene.camera, still)


def test_metal_says_nothing_about_the_finding(skeleton: Skeleton) -> None:
    for positive in (False, True):
        case = simulate(
            skeleton, Order(5, 1, SMALL, "hand", positive=positive, metal=True, cast=True)
        )
        assert "cast" in case.hardware and case.hardware.split(",")[0]


@pytest.mark.parametrize(
    ("axes", "side", "letters"),
    [
        ([[1, 0, 0], [0, 0, -1], [0, 1, 0]], "R", ("L", "F")),  # a body from the front
        ([[1, 0, 0], [0, 0, -1], [0, 1, 0]], "L", ("L", "F")),
        ([[0, -1, 0], [0.2, 0, -0.9], [1, 0, 0]], "R", ("A", "F")),  # from its left side
        ([[0, -1, 0], [0, 0, 1], [1, 0, 0]], "L", ("P", "H")),  # mirrored, and upside down
    ],
)
def test_where_the_picture_points(axes, side, letters) -> None:
    assert render.orientation_of(np.array(axes, float), side) == letters


def test_dicom_is_12_bit_inverted_and_nobody(skeleton: Skeleton, tmp_path: Path) -> None:
    case = simulate(skeleton, Order(6, 0, SMALL, "shoulder", positive=True))
    for inverted in (False, True):
        path = tmp_path / f"{inverted}.dcm"
        export.save_dicom(path, case, "x", inverted)
        data = pydicom.dcmread(path)
        stored = data.pixel_array
        assert (stored == (render.MAX_GREY - case.pixels if inverted else case.pixels)).all()
        assert data.PhotometricInterpretation == f"MONOCHROME{1 if inverted else 2}"
        assert (data.BitsStored, data.Modality) == (12, "DX")
        assert data.PatientName == "SIMULATED^RADIOGRAPH" and not data.PatientBirthDate
        if shutil.which("dciodvfy"):
            assert problems(path.read_bytes(), tmp_path) == []
    other = export.dicom_file(case, "y", False)
    assert other.SOPInstanceUID != data.SOPInstanceUID


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_command_writes_a_folder_like_the_data_sets(tmp_path: Path) -> None:
    words = ("--out", str(tmp_path), "--count", "2", "--size", "128", "--part", "elbow", "--dicom")
    assert command.run(arguments(*words), Settings()) == 0
    with (tmp_path / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        picture = cv2.imread(str(tmp_path / row["file"]), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (int(row["height"]), int(row["width"]))
        assert (row["positive"] == "1") == bool(row["boxes"]) == bool(row["mask"])
        assert row["positive_means"] == "fracture" and row["source"] == "simulated"
        assert (tmp_path / "dicom" / f"{row['id']}.dcm").exists()


@pytest.mark.parametrize("words", [("--count", "0"), ("--size", "9"), ("--workers", "0")])
def test_senseless_options_are_refused(words: tuple[str, str], tmp_path: Path) -> None:
    assert command.run(arguments("--out", str(tmp_path), *words), Settings()) == 2


def test_samples_are_those_of_the_generator(skeleton: Skeleton) -> None:
    with (SAMPLE_FOLDER / "manifest.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert list(rows) == [sample.name for sample in SAMPLES]
    files = [path for path in SAMPLE_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert all((SAMPLE_FOLDER / row["file"]).exists() for row in rows.values())
    sample = SAMPLES[0]
    made = export.eight_bit(simulate(skeleton, sample.order)).astype(int)
    kept = cv2.imread(str(SAMPLE_FOLDER / rows[sample.name]["file"]), cv2.IMREAD_GRAYSCALE)
    # Another version of a library may round otherwise, but not show something else.
    assert np.abs(made - kept).mean() < 2.0
