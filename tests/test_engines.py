"""Engines: one answer whichever runs the networks, and a plain reason for which one does."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core import locks
from core.architectures import LITE2
from core.cascade import Cascade
from core.engines import choice, vino
from core.engines.native import TorchEngine
from core.errors import EngineUnavailable
from core.settings import ROOT
from core.transforms import to_canvas, to_tensor
from core.types import Mode
from tests.ensembles import NAMES, with_members
from tests.simulated import phantom

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def cascade(wide: Cascade) -> Cascade:
    """How far two engines differ depends on the width."""
    return wide


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def canvases(cascade: Cascade) -> list[np.ndarray]:
    spec = cascade.release.preprocessing
    return [to_canvas(phantom(90, 70, seed=n), spec) for n in range(9)]


@pytest.fixture(scope="module")
def openvino(cascade: Cascade, home: Path) -> Cascade:
    """Converted once; what is measured on the samples is left out, for it is measured below."""
    folder = _folder(cascade, home)
    precision = folder.name.rpartition("-")[2]
    vino.convert(folder, cascade.release.preprocessing.size, precision, *cascade.modules)
    engine = vino.OpenVinoEngine(folder, cascade.release.preprocessing)
    return cascade.with_engine(engine)


def _folder(cascade: Cascade, home: Path) -> Path:
    precision = "bf16" if cascade.device.dtype is torch.bfloat16 else "f32"
    return vino.folder_of(home, cascade.release.sha256, precision)


def test_openvino_agrees_with_torch(cascade, openvino, canvases):
    assert "OpenVINO" in openvino.engine.description
    assert cascade.engine.description in ("CPU, bf16", "CPU, fp32")  # with however many threads
    assert (cascade.engine.setting, openvino.engine.setting) == ("torch", "openvino")
    found = choice.compare(cascade, openvino, canvases)
    assert found.pictures == 9
    assert found.largest <= 1e-3
    assert found.findings == 1.0
    both = cascade.assess(canvases), openvino.assess(canvases)
    assert any(one.heatmap is not None for one in both[0])
    for one, other in zip(*both, strict=True):
        assert (one.heatmap is None) == (other.heatmap is None)
        if one.heatmap is not None:
            assert np.abs(one.heatmap.values - other.heatmap.values).max() < 5e-3


def test_a_result_does_not_depend_on_its_neighbours(cascade, openvino, canvases, home):
    many = vino.OpenVinoEngine(_folder(cascade, home), cascade.release.preprocessing, many=True)
    for one in (cascade, openvino, cascade.with_engine(many)):
        together = one.assess(canvases)
        alone = [one.assess([c])[0] for c in canvases]
        for a, b in zip(together, alone, strict=True):
            for part, value in a.body_part.probabilities.items():
                assert value == pytest.approx(b.body_part.probabilities[part], abs=1e-5)


def test_fused_is_not_farther_from_float32_than_eager(cascade, canvases):
    """The fused kernels round once where eager torch rounds twice."""
    if cascade.device.dtype is not torch.bfloat16:
        pytest.skip("This processor has no bf16, so nothing is fused.")
    trunks, branches = cascade.modules
    [path] = trunks
    spec = cascade.release.preprocessing
    fused = TorchEngine(cascade.device, spec, trunks, branches).trunk(path, np.stack(canvases))
    with torch.inference_mode():
        x = to_tensor(np.stack(canvases), spec)
        eager = torch.cat([trunks[path](c.bfloat16()) for c in x.split(1)]).float()
        exact = copy.deepcopy(trunks[path]).float()(x)
    error = [float((y.float() - exact).norm() / exact.norm()) for y in (fused, eager)]
    assert error[0] <= error[1] * 1.02
    assert error[0] < 0.02


def test_openvino_tells_nobody_that_it_is_used(tmp_path):
    """Its package for that keeps an identity in the home directory before it sends anything."""
    code = (
        "import sys, torch\n"
        "from core.engines import vino\n"
        "vino._converted(torch.nn.Conv2d(3, 4, 1).eval(), (1, 3, 8, 8), 'f32', 'f32')\n"
        "assert 'openvino' in sys.modules\n"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry.')]\n"
    )
    quiet = ("CI", "TF_BUILD", "JENKINS_URL")  # where it would say nothing anyway
    environment = {k: v for k, v in os.environ.items() if k not in quiet}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
    assert not (tmp_path / "intel").exists()


def test_a_damaged_conversion_is_made_again(cascade, openvino, home):
    folder = _folder(cascade, home)
    assert vino.is_whole(folder)
    weights = folder / "0.bin"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
        assert not vino.is_whole(folder)
        with pytest.raises(EngineUnavailable, match="not made yet"):
            choice._openvino(cascade, home, convert=False, many=False)
    finally:
        weights.write_bytes(whole)
    assert vino.is_whole(folder)


def test_auto_takes_openvino_only_where_it_agrees(cascade, openvino, home, canvases, monkeypatch):
    monkeypatch.setattr(choice, "_samples", lambda _: canvases)
    chosen, reason = choice.choose(cascade, "auto", home)
    assert "OpenVINO" in chosen.engine.description
    assert "agrees with torch" in reason and "9 sample pictures" in reason
    record = _folder(cascade, home) / "agreement.json"
    measured = json.loads(record.read_text())
    apart = {"pictures": 9, "largest": 0.003, "findings": 1.0}
    for text in (json.dumps(apart | {"processor": "another"}), json.dumps(apart), "", "[]"):
        record.write_text(text)  # of a BONE_HOME that was moved, of an older version, damaged
        assert choice.choose(cascade, "auto", home)[0] is not cascade
        assert json.loads(record.read_text()) == measured
    record.write_text(json.dumps(measured | apart))
    chosen, reason = choice.choose(cascade, "auto", home)
    assert chosen is cascade
    assert "does not agree" in reason
    with pytest.raises(EngineUnavailable, match="does not agree"):
        choice.choose(cascade, "openvino", home)


def test_who_comes_while_another_converts_waits_and_takes_the_same(
    cascade, openvino, home, canvases, tmp_path, monkeypatch
):
    """As the workers of Ray do, and batches that share BONE_HOME. Each call opens the lock anew,
    so threads are kept apart by it as processes are."""
    made, measured = [], []

    def convert(folder: Path, *_) -> None:
        made.append(folder)
        with vino.replaced(folder) as new:
            time.sleep(0.5)
            shutil.copytree(_folder(cascade, home), new, dirs_exist_ok=True)
            (new / "agreement.json").unlink(missing_ok=True)

    def samples(_: Cascade) -> list[np.ndarray]:
        measured.append(1)
        return canvases[:2]

    monkeypatch.setattr(vino, "convert", convert)
    monkeypatch.setattr(choice, "_samples", samples)
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(choice.choose, cascade, "auto", tmp_path, True) for _ in range(3)]
        found = [job.result() for job in work]
    assert all("OpenVINO agrees with torch" in reason for _, reason in found)
    assert made == [_folder(cascade, tmp_path)] and len(measured) == 1
    assert {p.name for p in made[0].parent.iterdir()} == {made[0].name, f"{made[0].name}.lock"}


def test_what_a_killed_conversion_left_is_removed_by_the_next_one(tmp_path):
    folder = tmp_path / "one-bf16"
    for name in (".one-bf16.abcd1234", ".two-bf16.abcd1234"):  # the other may be at work
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.bin").write_bytes(b"x")
    with vino.replaced(folder) as made:
        (made / "1.bin").write_bytes(b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".two-bf16.abcd1234", "one-bf16"]


def test_what_one_holds_no_other_takes_and_the_file_stays(tmp_path):
    path = tmp_path / "new" / ".claims"
    with locks.held(path), path.open("w") as other, pytest.raises(BlockingIOError):
        locks.take(other)
    with locks.held(path):
        pass
    assert path.exists()


def test_windows_waits_for_a_lock_as_long_as_it_takes(monkeypatch):
    """There the system itself gives up after ten seconds."""
    tried = []

    def locking(_: int, how: int, __: int) -> None:
        tried.append(how)
        if len(tried) < 3:
            raise OSError(errno.EDEADLK, "Resource deadlock avoided")

    monkeypatch.setitem(
        sys.modules, "msvcrt", SimpleNamespace(LK_LOCK=1, LK_NBLCK=2, locking=locking)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    locks.take(0, wait=True)
    assert tried == [1, 1, 1]
    tried.clear()
    with pytest.raises(OSError, match="deadlock"):
        locks.take(0)
    assert tried == [2]


def test_auto_is_torch_without_openvino_or_a_conversion(cascade, tmp_path, monkeypatch):
    assert choice.choose(cascade, "torch", tmp_path)[0] is cascade
    chosen, reason = choice.choose(cascade, "auto", tmp_path)
    assert chosen is cascade and "not made yet" in reason

    def missing():
        raise EngineUnavailable("OpenVINO is not installed: pip install openvino.")

    monkeypatch.setattr(vino, "library", missing)
    chosen, reason = choice.choose(cascade, "auto", tmp_path)
    assert chosen is cascade and "not installed" in reason


@pytest.fixture(scope="module")
def ensemble(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    folder = tmp_path_factory.mktemp("ensemble")
    with_members(weights, folder, *NAMES)
    return Cascade.load(folder, device="cpu").in_mode(Mode.ENSEMBLE)


def test_every_member_is_the_same_in_openvino(ensemble, canvases, tmp_path):
    folder, spec = _folder(ensemble, tmp_path), ensemble.release.preprocessing
    trunks, _ = ensemble.modules
    others = {path: trunks[path] for path in ensemble.release.architectures}
    assert len(others) == len(NAMES)
    vino.convert(folder, spec.size, folder.name.rpartition("-")[2], others, {})
    engine = vino.OpenVinoEngine(folder, spec)
    for path in others:
        one = ensemble.engine.trunk(path, np.stack(canvases)).float()
        two = engine.trunk(path, np.stack(canvases)).float()
        pooled = [m.mean((2, 3)) for m in (one, two)]
        # of the logit of a linear layer of weights in [-1, 1] / sqrt(D), as torch begins with
        apart = (pooled[0] - pooled[1]).norm(dim=1) / one.shape[1] ** 0.5
        assert float(apart.max()) < 4e-3, path
        assert np.abs((one - two).numpy()).mean() < 2e-2 * one.abs().mean()


def test_fused_lite2_is_not_farther_from_float32_than_eager(ensemble, canvases):
    if ensemble.device.dtype is not torch.bfloat16:
        pytest.skip("This processor has no bf16, so nothing is fused.")
    path = next(p for p, n in ensemble.release.architectures.items() if n == LITE2)
    trunk, spec = ensemble.modules[0][path], ensemble.release.preprocessing
    fused = ensemble.engine.trunk(path, np.stack(canvases)).float()
    with torch.inference_mode():
        x = to_tensor(np.stack(canvases), spec)
        eager = torch.cat([trunk(c.bfloat16()) for c in x.split(1)]).float()
        exact = copy.deepcopy(trunk).float()(x)
    error = [float((y - exact).norm() / exact.norm()) for y in (fused, eager)]
    assert error[0] <= error[1] * 1.02
    assert error[0] < 0.2  # linear bottlenecks round more than a ResNet's blocks do
