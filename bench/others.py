"""What else reads radiographs, on the same files: each is left out where it is not installed.

All have random weights, which cost the same: no download. None of them makes a heatmap.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.clock import Way
from core.compat import import_torchvision

Maker = Callable[[Sequence[bytes], int, int], Way]


def rows(files: Sequence[bytes], size: int, threads: int) -> tuple[dict[str, Way], list[str]]:
    """The ways that are installed, and a sentence for each that is not. size: side in pixels."""
    found: dict[str, Way] = {}
    missing = []
    makers: dict[str, tuple[str, Maker]] = {
        "two Keras ResNet50, predict, one by one": ("tensorflow", _keras),
        "two timm ResNet50, one by one": ("timm", _timm),
        "torchxrayvision DenseNet121, one by one": ("torchxrayvision", _xrayvision),
    }
    for name, (package, make) in makers.items():
        if find_spec(package) is None:
            missing.append(f"{name}: left out, {package} is not installed.")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = make(files, size, threads)
    return found, missing


def rgb(data: bytes, size: int) -> NDArray[np.float32]:
    """A file as these programs read it: sizexsizex3 in [0, 1]."""
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size))
    return np.asarray(picture, np.float32) / 255


def _keras(files: Sequence[bytes], size: int, threads: int) -> Way:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    if threads:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    make = tensorflow.keras.applications.ResNet50
    part, fracture = (make(weights=None, classes=n, input_shape=(size, size, 3)) for n in (4, 2))

    def run() -> None:
        for data in files:
            x = rgb(data, size)[None]
            part.predict(x, verbose=0)
            fracture.predict(x, verbose=0)

    return run


def _timm(files: Sequence[bytes], size: int, _: int) -> Way:
    import_torchvision()
    import timm

    part, fracture = (timm.create_model("resnet50", num_classes=n).eval() for n in (4, 2))
    return lambda: _torch(files, size, (part, fracture))


def _xrayvision(files: Sequence[bytes], size: int, _: int) -> Way:
    import_torchvision()
    import torchxrayvision

    model = torchxrayvision.models.DenseNet(weights=None).eval()
    return lambda: _torch(files, size, (model,), channels=1)


@torch.inference_mode()
def _torch(
    files: Sequence[bytes], size: int, models: Sequence[torch.nn.Module], channels: int = 3
) -> None:
    for data in files:
        x = torch.from_numpy(rgb(data, size)).permute(2, 0, 1)[None, :channels]
        for model in models:
            model(x)
