"""The networks in OpenVINO on a CPU, bf16 (or int8, see ``int8``).

A converted network lies in BONE_HOME under the digest of the release and the version of OpenVINO,
with the SHA-256 of each of its files. Two things make it agree with ``native`` bit for bit where
both use oneDNN's kernels; without them probabilities differed by up to 3e-3:

- its output is declared bf16. An output of float32 makes OpenVINO compute the whole last bottleneck
  in float32;
- it is converted from torch's own bf16 copy, whose folded biases are rounded to bf16.

The third was in torch: see ``native``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core import locks
from core.architectures import needs_float32
from core.errors import EngineUnavailable
from core.files import write_json
from core.transforms import Preprocessing, to_tensor


class OpenVinoEngine:
    """Compiled networks. folder: what ``convert`` wrote. streams: how many pictures at a time."""

    def __init__(self, folder: Path, preprocessing: Preprocessing, many: bool = False) -> None:
        openvino = library()
        self._preprocessing = preprocessing
        facts = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        arithmetic = facts.get("arithmetic", facts["precision"])
        self.description = f"OpenVINO {facts['version']}, CPU, {arithmetic}"
        self.setting = "openvino-int8" if arithmetic == "int8" else "openvino"
        core = openvino.Core()
        wish = {
            "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
        }
        threads = os.environ.get("OMP_NUM_THREADS")  # how Ray and others give a share of a machine
        if threads and threads.isdecimal():
            wish["INFERENCE_NUM_THREADS"] = threads

        def compiled(file: str) -> _Compiled:
            model = core.read_model(folder / file)
            # What gives float32 where others give bf16 is computed so, see ``convert``.
            whole = model.output(0).element_type == openvino.Type.f32
            hint = {"INFERENCE_PRECISION_HINT": "f32" if whole else facts["precision"]}
            return _Compiled(core.compile_model(model, "CPU", wish | hint))

        self._networks = {name: compiled(file) for name, file in facts["networks"].items()}

    def trunk(self, path: str, canvases: NDArray[np.uint8]) -> Tensor:
        x = to_tensor(canvases, self._preprocessing).contiguous()
        return self._networks[f"trunk {path}"].run(x)

    def branch(self, stage: str, features: Tensor) -> NDArray[np.float32]:
        x = features.contiguous()
        return self._networks[f"branch {stage}"].run(x).float().numpy()


class _Compiled:
    """One compiled network: pictures one at a time, as many at once as it has streams."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._streams = int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._shape = tuple(model.output(0).shape)[1:]
        bf16 = model.output(0).element_type == library().Type.bf16
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._local = threading.local()

    def run(self, x: Tensor) -> Tensor:
        """NxCxHxW in the network's own precision -> the same for its output."""
        out = torch.empty((len(x), *self._shape), dtype=self._dtype)
        requests = self._requests(min(self._streams, len(x)))
        for n in range(len(x)):
            request = requests[n % len(requests)]
            request.wait()
            request.set_input_tensor(shared(x[n : n + 1]))
            request.set_output_tensor(shared(out[n : n + 1]))
            request.start_async()
        for request in requests:
            request.wait()
        return out

    def _requests(self, count: int) -> list[Any]:
        """Requests of the calling thread: they hold the tensors of a pass."""
        kept: list[Any] = self._local.__dict__.setdefault("requests", [])
        while len(kept) < count:
            kept.append(self._model.create_infer_request())
        return kept[:count]


def shared(x: Tensor) -> Any:
    """An OpenVINO tensor on the memory of a contiguous torch tensor."""
    openvino = library()
    if x.dtype is torch.bfloat16:
        bits = x.view(torch.int16).numpy()
        return openvino.Tensor(bits, x.shape, openvino.Type.bf16)
    return openvino.Tensor(x.numpy(), shared_memory=True)


def library() -> Any:
    """openvino; raises EngineUnavailable where it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise EngineUnavailable("OpenVINO is not installed: pip install openvino.") from error
    return openvino


def folder_of(home: Path, release_sha256: str, precision: str) -> Path:
    """Where the converted networks of a release lie."""
    version = library().__version__.partition("-")[0]
    return home / "engines" / f"{release_sha256[:16]}-openvino-{version}-{precision}"


def is_whole(folder: Path) -> bool:
    """Whether a conversion is there and every file has the SHA-256 that was written with it."""
    try:
        facts = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        return all(_digest(folder / name) == sha for name, sha in facts["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False


def convert(
    folder: Path,
    size: int,
    precision: str,
    trunks: Mapping[str, nn.Module],
    branches: Mapping[str, nn.Module],
) -> None:
    """Write every folded network in OpenVINO's own format; all or nothing.

    size: side of the canvas. precision: bf16 or f32, in which the networks are to be run and
    passed from trunk to branch, but for those that are always run in float32
    (``architectures.needs_float32``). The modules are not changed.
    """
    openvino = library()
    networks = {}
    cells = -(-size // 16)
    jobs = [("trunk", k, m, (1, 3, size, size), "f32") for k, m in trunks.items()]
    for key, layer4 in branches.items():
        channels = next(layer4.parameters()).shape[1]
        jobs.append(("branch", key, layer4, (1, channels, cells, cells), precision))
    with replaced(folder) as made:
        for n, (kind, key, module, shape, taken) in enumerate(jobs):
            given = "f32" if needs_float32(module) else precision
            model = _converted(module, shape, taken, given)
            openvino.save_model(model, made / f"{n}.xml", compress_to_fp16=False)
            networks[f"{kind} {key}"] = f"{n}.xml"
        write_facts(made, precision, networks, precision)


def alone(folder: Path) -> AbstractContextManager[None]:
    """One process, and one thread of it, makes what lies in ``folder`` at a time; the others wait.

    The lock lies beside the folder, which is replaced as a whole.
    """
    return locks.held(folder.with_name(f"{folder.name}.lock"))


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of ``folder`` unless an error is raised.

    Nobody else may do so meanwhile: see ``alone``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.????????"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield made
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_facts(folder: Path, precision: str, networks: Mapping[str, str], arithmetic: str) -> None:
    """What ``OpenVinoEngine`` reads of a folder, with the SHA-256 of each file that lies there.

    precision: bf16 or f32, of all that is not quantised. networks: files by name. arithmetic: of
    the convolutions, int8 or the precision.
    """
    facts = {
        "version": library().__version__.partition("-")[0],
        "precision": precision,
        "arithmetic": arithmetic,
        "networks": dict(networks),
        "sha256": {p.name: _digest(p) for p in sorted(folder.iterdir())},
    }
    write_json(folder / "files.json", facts)


def _converted(module: nn.Module, shape: Sequence[int], taken: str, given: str) -> Any:
    """One module as an OpenVINO model of that input and of these precisions at its ends."""
    openvino = library()
    from openvino.preprocess import PrePostProcessor

    network = copy.deepcopy(module).float().cpu()  # biases that were bf16 keep their rounding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about what it does not keep
        model = openvino.convert_model(network, example_input=torch.zeros(tuple(shape)))
    model.reshape(list(shape))
    ends = PrePostProcessor(model)
    ends.input().tensor().set_element_type(getattr(openvino.Type, taken))
    ends.output().tensor().set_element_type(getattr(openvino.Type, given))
    return ends.build()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
