"""The ways that are compared: the usual app, the cascade with each engine, and decoding alone."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from bench.clock import Way
from core import film, imaging
from core.cascade import Cascade
from core.compat import import_torchvision
from core.engines import choice
from core.errors import EngineUnavailable
from core.settings import ROOT, Settings
from core.transforms import framed
from core.types import Mode

SIDE = 512


def limit_threads(count: int) -> None:
    """One thread makes processor time mean the same for every way."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # the OpenVINO engine reads it


def pictures(count: int) -> list[bytes]:
    """Simulated radiographs of 512 px, PNG and JPEG in turns, all different."""
    sources = sorted((ROOT / "samples").glob("*.png"))
    files = []
    for n in range(count):
        grey = cv2.imread(str(sources[n % len(sources)]), cv2.IMREAD_GRAYSCALE)
        grey = cv2.resize(grey, (SIDE, SIDE))
        grey[0, 0] = n % 256
        files.append(cv2.imencode((".png", ".jpg")[n % 2], grey)[1].tobytes())
    return files


def all_ways(files: Sequence[bytes], settings: Settings) -> tuple[dict[str, Way], list[str]]:
    """Each way scores all files once, from their bytes, heatmaps included; what is left out.

    The cascade is the two ResNet50 stages alone; what an ensemble takes beside them is a row apart.
    """
    whole = Cascade.load(settings.weights, settings.release, "cpu")
    cascade = whole.in_mode(Mode.FAST)
    size = cascade.release.preprocessing.size
    found: dict[str, Way] = {
        f"usual app: two ResNet50 + grad-cam, {size} px": _usual(files, size),
        f"cascade, {_short(cascade.engine.description)}, one by one": lambda: [
            _one(cascade, f, settings) for f in files
        ],
        f"cascade, {_short(cascade.engine.description)}, together": lambda: _together(
            cascade, files, settings
        ),
    }
    missing = []
    for engine in ("openvino", "openvino-int8"):
        try:
            found |= _openvino(whole, engine, files, settings)
        except EngineUnavailable as error:
            missing.append(f"{engine}: left out. {error}")
    if whole.release.largest_mode is Mode.ENSEMBLE:
        many, _ = choice.choose(whole, settings.engine, settings.home, many=True)
        joined, engine = many.in_mode(Mode.ENSEMBLE), _short(many.engine.description)
        found[f"ensemble, {engine}, together"] = lambda: _together(joined, files, settings)
    found["decoding alone"] = lambda: [_canvas(cascade, f, settings) for f in files]
    return found, missing


def _openvino(
    whole: Cascade, engine: str, files: Sequence[bytes], settings: Settings
) -> dict[str, Way]:
    """Raises EngineUnavailable.

    whole: the release as it is loaded, for it is under that digest that a batch, the page and
    ``quantise`` keep its networks.
    """
    one, many = (
        choice.choose(whole, engine, settings.home, many=m)[0].in_mode(Mode.FAST)
        for m in (False, True)
    )
    name = f"cascade, {_short(one.engine.description)}"
    return {
        f"{name}, one by one": lambda: [_one(one, f, settings) for f in files],
        f"{name}, together": lambda: _together(many, files, settings),
    }


def _short(description: str) -> str:
    """Engine and precision, such as "OpenVINO bf16"."""
    name = "OpenVINO" if description.startswith("OpenVINO") else "torch"
    precision = description.rpartition(" ")[2]
    return f"{name} {'fp32' if precision == 'f32' else precision}"


def _canvas(cascade: Cascade, data: bytes, settings: Settings) -> np.ndarray:
    radiograph = film.as_seen(imaging.decode(data, "", settings.limits))
    return framed(radiograph.pixels, cascade.release.preprocessing)[0]


def _one(cascade: Cascade, data: bytes, settings: Settings) -> object:
    return cascade.assess([_canvas(cascade, data, settings)])


def _together(cascade: Cascade, files: Sequence[bytes], settings: Settings) -> object:
    return cascade.assess([_canvas(cascade, f, settings) for f in files])


def _usual(files: Sequence[bytes], size: int) -> Way:
    """What the public apps do: Pillow to RGB, a whole network for each stage, a backward pass."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from torchvision.models import resnet50
    from PIL import Image

    part, fracture = resnet50(num_classes=4).eval(), resnet50(num_classes=2).eval()

    def run() -> None:
        for data in files:
            picture = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size))
            x = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                part(x).softmax(1)
            with GradCAM(model=fracture, target_layers=[fracture.layer4[-1]]) as cam:
                cam(x, None)
                cam.outputs.softmax(1)

    return run
