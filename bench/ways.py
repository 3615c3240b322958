"""The ways that are compared: the usual app, the cascade with each engine, and decoding alone."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from core import imaging
from core.cascade import Cascade
from core.compat import import_torchvision
from core.engines import choice
from core.errors import EngineUnavailable
from core.settings import ROOT, Settings
from core.transforms import to_canvas

log = logging.getLogger(__name__)

SIDE = 512
PASS_GFLOP = 8.2  # one ResNet50 at 224 px, a multiplication and an addition counted as two
CASCADE_PASSES = 1.2
# 3x3 on 256 channels of 14x14 pixels: layer3's, where most of the work is.
CONVOLUTION = (256, 256, 14)

Way = Callable[[], object]


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


def all_ways(files: Sequence[bytes], settings: Settings) -> dict[str, Way]:
    """Each way scores all files once, from their bytes, heatmaps included."""
    cascade = Cascade.load(settings.weights, settings.release, "cpu")
    size = cascade.release.preprocessing.size
    found: dict[str, Way] = {
        f"usual app: two ResNet50 + grad-cam, {size} px": _usual(files, size),
        "cascade, torch, one by one": lambda: [_one(cascade, f, settings) for f in files],
        "cascade, torch, together": lambda: _together(cascade, files, settings),
    }
    try:
        one, _ = choice.choose(cascade, "openvino", settings.home)
        many, _ = choice.choose(cascade, "openvino", settings.home, many=True)
    except EngineUnavailable as error:
        log.warning("OpenVINO is left out: %s", error)
    else:
        found["cascade, OpenVINO, one by one"] = lambda: [_one(one, f, settings) for f in files]
        found["cascade, OpenVINO, together"] = lambda: _together(many, files, settings)
    found["decoding alone"] = lambda: [_canvas(cascade, f, settings) for f in files]
    return found


def _canvas(cascade: Cascade, data: bytes, settings: Settings) -> np.ndarray:
    pixels = imaging.decode(data, "", settings.limits).pixels
    return to_canvas(pixels, cascade.release.preprocessing)


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


def bound(settings: Settings) -> float:
    """Processor seconds of a prediction if every layer ran like the best convolution here."""
    inside, out, side = CONVOLUTION
    conv = torch.nn.Conv2d(inside, out, 3, padding=1).bfloat16().requires_grad_(False)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(16, inside, side, side).bfloat16().to(memory_format=torch.channels_last)
    operations = 2 * 9 * inside * out * side * side * len(x)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(30):
            began = time.process_time()
            conv(x)
            best = min(best, time.process_time() - began)
    size = settings_size(settings)
    return CASCADE_PASSES * PASS_GFLOP * (size / 224) ** 2 * 1e9 * best / operations


def settings_size(settings: Settings) -> int:
    """Side of the canvas of the release in use."""
    from core.registry import Registry

    return Registry.open(settings.weights).find(settings.release).preprocessing.size


def cold_start() -> list[str]:
    """A new process to a loaded release, with each engine that is ready."""
    code = (
        "import time; t = time.perf_counter(); u = time.process_time();"
        "from core.engines import choice; from core.settings import Settings;"
        "c = choice.load(Settings.from_environment());"
        "print(f'{time.perf_counter() - t:.1f} s ({time.process_time() - u:.1f} of processor)')"
    )
    found = []
    for engine in ("torch", "auto"):
        environment = os.environ | {"BONE_ENGINE": engine}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(f"{engine} {done.stdout.strip()}")
    return found


def memory(root: Path) -> str:
    """Highest resident memory of a batch of 100 and of 2,000 small files, in a process each."""
    code = (
        "import io, resource, sys, threading; from pathlib import Path;"
        "from core.batch.run import Order, run; from tests.batches import Stand, scorer;"
        "run(Order(Path(sys.argv[1]), Path(sys.argv[2])), scorer(Stand()), threading.Event(), "
        "io.StringIO()); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    found = []
    for count in (100, 2000):
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder) / "in"
            where.mkdir()
            for n, data in enumerate(pictures(count)):
                (where / f"{n:05d}.png").write_bytes(data)
            command = [sys.executable, "-c", code, str(where), f"{folder}/out.csv"]
            done = subprocess.run(command, cwd=root, capture_output=True, check=True)
            found.append(int(done.stdout))
    return f"memory without a network: {found[0]} MB for 100 files, {found[1]} MB for 2,000"
