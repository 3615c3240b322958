"""The cascade gives the same numbers to one thread and to many, alone and in a batch."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.cascade import Cascade
from core.network import Branch, Trunk
from core.registry import Registry
from core.stages import Activations
from core.transforms import to_canvas, to_tensor
from core.types import STRANGER, BodyPart, Finding, ImageResult, Radiograph
from tests.conftest import random_release
from tests.simulated import blob
from training import release

PARTS = ("elbow", "hand", "shoulder")


def radiograph(seed: int, height: int = 120, width: int = 90) -> Radiograph:
    return Radiograph(blob(height, width, seed), f"{seed}.png", f"{seed:064x}", "PNG")


RADIOGRAPHS = [radiograph(i, 100 + 7 * i % 60, 140 - 11 * i % 70) for i in range(32)]


def numbers(result: ImageResult) -> np.ndarray:
    assert result.body_part and result.fracture and result.heatmap
    return np.concatenate(
        [
            list(result.body_part.probabilities.values()),
            [result.fracture.probability],
            result.heatmap.values.ravel(),
        ]
    )


@pytest.fixture(scope="module")
def alone(cascade: Cascade) -> list[np.ndarray]:
    return [numbers(cascade.predict([r], BodyPart.ELBOW)[0]) for r in RADIOGRAPHS]


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_batch_size_does_not_change_the_result(cascade, alone, batch):
    results = [
        r
        for i in range(0, 32, batch)
        for r in cascade.predict(RADIOGRAPHS[i : i + batch], BodyPart.ELBOW)
    ]
    assert [r.file for r in results] == [r.name for r in RADIOGRAPHS]
    for result, expected in zip(results, alone, strict=True):
        np.testing.assert_allclose(numbers(result), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    """A branch of its own for each part, a stage 1 that takes pictures for all."""
    folder = tmp_path_factory.mktemp("apart")
    random_release(folder)
    [entry] = json.loads((folder / "manifest.json").read_text())["releases"]
    registry = Registry.open(folder)
    loaded = registry.load(registry.find("random"))
    shared = loaded.pop("random/fracture.safetensors")
    for n, part in enumerate(PARTS):
        path = entry["stages"][part]["branch"] = f"random/{part}.safetensors"
        loaded[path] = shared | {"fc.bias": shared["fc.bias"] + n}
    cascade = Cascade.load(folder, device="cpu")
    canvases = [to_canvas(r.pixels, cascade.release.preprocessing) for r in RADIOGRAPHS]
    logits, _ = cascade.logits_and_features("body_part", np.stack(canvases))
    first, scale = loaded["random/part.safetensors"], 10 / torch.from_numpy(logits.std(0))
    first["fc.weight"] = first["fc.weight"] * scale[:, None]
    first["fc.bias"] = (first["fc.bias"] - torch.from_numpy(logits.mean(0))) * scale
    first["fc.bias"][3] -= 100  # never another part
    release.write(folder, entry, {p: release.half(t) for p, t in loaded.items()})
    return Cascade.load(folder, device="cpu")


def test_eight_threads_of_fifty_equal_one_thread(apart):
    alone = [numbers(apart.predict([r], BodyPart.ELBOW)[0]) for r in RADIOGRAPHS]

    def score(thread: int) -> float:
        worst = 0.0
        for k in range(50):
            i = (thread * 13 + k) % len(RADIOGRAPHS)
            result = apart.predict([RADIOGRAPHS[i]], BodyPart.ELBOW)[0]
            worst = max(worst, float(np.abs(numbers(result) - alone[i]).max()))
        return worst

    with ThreadPoolExecutor(8) as pool:
        worst = list(pool.map(score, range(8)))
    assert len(worst) == 8
    assert max(worst) <= 1e-5


def test_each_part_has_the_answer_of_its_own_branch(apart):
    for radiograph in RADIOGRAPHS[:4]:
        found = [apart.predict([radiograph], BodyPart(p))[0].fracture.probability for p in PARTS]
        odds = [np.log(p / (1 - p)) for p in found]
        np.testing.assert_allclose(np.diff(odds), 1, atol=1e-3)


def test_parts_are_gathered_and_given_back_in_order(apart):
    both = apart.predict(RADIOGRAPHS)
    assert [r.sha256 for r in both] == [r.sha256 for r in RADIOGRAPHS]
    labels = [r.body_part.label for r in both]
    assert len(set(labels)) >= 2 and labels != sorted(labels)
    for radiograph, label, one in zip(RADIOGRAPHS, labels, both, strict=True):
        [alone], [asked] = apart.predict([radiograph]), apart.predict([radiograph], label)
        assert one.body_part.label == alone.body_part.label
        for other in (alone, asked):
            assert one.fracture.probability == pytest.approx(other.fracture.probability, abs=1e-5)


def test_no_input_no_result(cascade):
    assert cascade.predict([]) == []


def test_other_is_refused_with_a_sentence_and_null_stages(weights, monkeypatch):
    cascade = Cascade.load(weights, device="cpu")
    other = np.array([0.0, 0.0, 0.0, 9.0])
    monkeypatch.setattr("core.quality.collapse", lambda logits, classes, parts: other)
    [result] = cascade.predict(RADIOGRAPHS[:1])
    record = result.to_json()
    assert record["status"] == "rejected"
    assert "fracture model" in record["reason"]
    assert record["body_part"] is None
    assert record["fracture"] is None
    assert result.body_part.label == BodyPart.OTHER


def test_what_an_other_is_called_does_not_depend_on_how_many_are_refused(weights):
    """The shift against the parts holds for all others; a stranger has its own."""
    cascade = Cascade.load(weights, device="cpu")
    kinds = ("elbow", "hand", "shoulder", "forearm", STRANGER, "other")
    logits = np.array([0.0, 0.0, 0.0, 6.0, 1.0, 0.0], np.float32)
    for shift, stranger, name in (
        (-4.0, 0.0, "forearm"),
        (-4.0, -9.0, "forearm"),
        (0, 7, STRANGER),
    ):
        first = replace(
            cascade.release.stages["body_part"],
            classes=kinds,
            other_shift=shift,
            stranger_shift=stranger,
        )
        stages = cascade.release.stages | {"body_part": first}
        cascade.release = replace(cascade.release, stages=stages)
        found = cascade._body_part(
            Activations(
                logits, np.zeros((cascade._networks["body_part"].weight.shape[1], 1, 1), np.float32)
            )
        )
        assert (found.label, found.looks_like) == ("other", name)


def test_reader_may_choose_the_part(cascade):
    [result] = cascade.predict(RADIOGRAPHS[:1], BodyPart.SHOULDER)
    assert result.status == "ok"
    assert result.fracture.finding in Finding


def test_golden_training_sees_the_tensor_that_inference_sees(cascade, tmp_path):
    import cv2
    import pandas as pd

    from core import imaging
    from core.settings import ImageLimits
    from training.data import load_canvases

    path = tmp_path / "a.png"
    cv2.imwrite(str(path), RADIOGRAPHS[3].pixels)
    spec = cascade.release.preprocessing
    _, canvases = load_canvases(pd.DataFrame({"path": [str(path)]}), spec)
    inference = to_canvas(imaging.read(path, ImageLimits()).pixels, spec)
    assert torch.equal(to_tensor(canvases, spec), to_tensor(inference[None], spec))
    # and training's own arithmetic on a batch of canvases, with nothing varied
    grey = torch.from_numpy(canvases).float().div_(255)[:, None]
    training = grey.sub_(spec.mean).div_(spec.std).expand(-1, 3, -1, -1)
    assert torch.equal(training, to_tensor(inference[None], spec))


def test_closed_form_equals_the_grad_cam_library(weights):
    from core.compat import import_torchvision

    import_torchvision()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from core.explain import grad_cam
    from core.registry import Registry

    registry = Registry.open(weights)
    tensors = registry.load(registry.find("champion"))

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.branch = Trunk(), Branch(1)
            self.trunk.load_state_dict(tensors["random/trunk.safetensors"])
            self.branch.load_state_dict(tensors["random/fracture.safetensors"])
            with torch.no_grad():  # positive evidence everywhere, far above the library's 1e-7
                self.branch.fc.weight.abs_().mul_(1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.branch(self.trunk(x)).logits

    model = Both().eval()
    spec = registry.find("champion").preprocessing
    for r in RADIOGRAPHS[:4]:
        x = to_tensor(to_canvas(r.pixels, spec)[None], spec).contiguous()
        with torch.no_grad():
            activations = model.branch(model.trunk(x)).activations[0].numpy()
        ours = grad_cam(activations, model.branch.fc.weight[0].detach().numpy(), 1.0).values
        with GradCAM(model=model, target_layers=[model.branch.layer4[-1]]) as cam:
            theirs = cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])[0]
        import cv2

        resized = cv2.resize(ours, theirs.shape[::-1])  # the library stretches after resizing
        stretched = (resized - resized.min()) / (resized.max() - resized.min())
        np.testing.assert_allclose(stretched, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("lower_leg", "This looks like the lower leg, which has no fracture model here"),
        ("stranger", "This does not look like a radiograph of a bone"),
        ("other", "This does not look like a body part that has a fracture model here"),
    ],
)
def test_a_release_that_knows_others_by_name_says_what_it_sees(
    tmp_path: Path, kind: str, sentence: str
) -> None:
    """Whatever stage 1's classes: the cascade's four in the record, the name in the reason."""
    random_release(tmp_path)
    path = tmp_path / "manifest.json"
    [entry] = json.loads(path.read_text())["releases"]
    kinds = ["elbow", "hand", "shoulder", "lower_leg", "stranger", "other"]
    branch = {k: v for k, v in Branch(len(kinds)).state_dict().items()}
    branch["fc.bias"] = 50.0 * torch.tensor([k == kind for k in kinds])
    registry = Registry.open(tmp_path)
    loaded = registry.load(registry.find("random"))
    tensors = {path: release.half(state) for path, state in loaded.items()}
    tensors["random/part.safetensors"] = release.half(branch)
    entry["stages"]["body_part"]["classes"] = kinds
    release.write(tmp_path, entry, tensors)
    [result] = Cascade.load(tmp_path, device="cpu").predict(RADIOGRAPHS[:1])
    assert result.reason is not None and result.reason.startswith(sentence)
    assert result.body_part is not None and result.body_part.label == BodyPart.OTHER
    assert list(result.body_part.probabilities) == ["elbow", "hand", "shoulder", "other"]
    assert result.body_part.probabilities[BodyPart.OTHER] > 0.99
    assert result.fracture is None
