"""Which engine runs a release here, and why."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from core import imaging
from core.cascade import Cascade
from core.engines import int8, vino
from core.errors import EngineUnavailable, ImageRejected
from core.files import write_json
from core.settings import ROOT, Settings
from core.transforms import Canvas, to_canvas
from core.types import Assessment

log = logging.getLogger(__name__)

SAMPLES = ROOT / "samples"
CLOSE = 1e-3  # largest difference in a probability between two engines that agree


@dataclass(frozen=True)
class Agreement:
    """Two engines on the same pictures. largest: of all differences in a probability.

    findings: share of the pictures with the same body part and the same finding.
    """

    pictures: int
    largest: float
    findings: float

    @property
    def holds(self) -> bool:
        return self.pictures > 0 and self.largest <= CLOSE and self.findings == 1.0


def load(settings: Settings, convert: bool = False, many: bool = False) -> Cascade:
    """A release with the engine of the settings.

    convert: make OpenVINO's networks where there are none yet, which takes half a minute, once.
    many: set up for many pictures at a time, not for the shortest wait for one.
    Raises what ``Cascade.load`` raises, and EngineUnavailable for a named engine that is not there.
    """
    cascade = Cascade.load(settings.weights, settings.release, settings.device)
    chosen, reason = choose(cascade, settings.engine, settings.home, convert, many)
    log.info("%s: %s", chosen.engine.description, reason)
    return chosen.in_mode(settings.mode)


def choose(
    cascade: Cascade, wish: str, home: Path, convert: bool = False, many: bool = False
) -> tuple[Cascade, str]:
    """The cascade with the engine of that name, and one sentence why; see ``load``."""
    if wish == "torch":
        return cascade, "torch was asked for."
    try:
        if wish == "openvino-int8":
            return _int8(cascade, home, many)
        return _openvino(cascade, home, convert or wish == "openvino", many, wish == "auto")
    except EngineUnavailable as error:
        if wish != "auto":
            raise
        return cascade, str(error)
    except (OSError, RuntimeError) as error:  # a full disk, or an OpenVINO that fails here
        log.warning("OpenVINO does not work here.", exc_info=True)
        if wish != "auto":
            raise EngineUnavailable("OpenVINO does not work here; the log says why.") from error
        return cascade, "OpenVINO does not work here; the log says why."


def _int8(cascade: Cascade, home: Path, many: bool) -> tuple[Cascade, str]:
    _needs_cpu(cascade)
    folder, checks = int8.accepted(home, cascade.release)
    engine = vino.OpenVinoEngine(folder, cascade.release.preprocessing, many)
    said = " ".join(map(str, checks))
    return cascade.with_engine(engine), f"int8 was checked here and loses nothing. {said}"


def _needs_cpu(cascade: Cascade) -> None:
    if cascade.device.processor.type != "cpu":
        raise EngineUnavailable("OpenVINO is for the CPU, and there is a GPU in use.")


def converted(cascade: Cascade, home: Path, convert: bool) -> Path:
    """Where OpenVINO's networks of the cascade's own precision lie; raises EngineUnavailable.

    convert: make them where there are none, or damaged ones.
    """
    _needs_cpu(cascade)
    precision = "bf16" if cascade.device.dtype is torch.bfloat16 else "f32"
    folder = vino.folder_of(home, cascade.release.sha256, precision)
    if not vino.is_whole(folder):
        if not convert:
            raise EngineUnavailable(
                "OpenVINO's networks are not made yet; `python -m core batch` makes them."
            )
        with vino.alone(folder):
            if not vino.is_whole(folder):  # another process may have made them meanwhile
                size = cascade.release.preprocessing.size
                vino.convert(folder, size, precision, *cascade.modules)
    return folder


def _openvino(
    cascade: Cascade, home: Path, convert: bool, many: bool, faster: bool = False
) -> tuple[Cascade, str]:
    """faster: int8 instead where that may be used here."""
    folder = converted(cascade, home, convert)
    reason = ""
    if faster:
        try:
            return _int8(cascade, home, many)
        except EngineUnavailable as error:
            reason = f" {str(error)[0].upper()}{str(error)[1:]}"
    engine = vino.OpenVinoEngine(folder, cascade.release.preprocessing, many)
    found = cascade.with_engine(engine)
    agreement = _agreement(folder, cascade, found)
    said = (
        f"{agreement.pictures} sample pictures differ from torch by at most "
        f"{agreement.largest:.0e} in a probability, {agreement.findings:.0%} of the findings equal"
    )
    if not agreement.holds:
        raise EngineUnavailable(f"OpenVINO does not agree with torch on this computer: {said}.")
    return found, f"OpenVINO agrees with torch on this computer: {said}.{reason}"


def _agreement(folder: Path, one: Cascade, other: Cascade) -> Agreement:
    """What was measured on this processor when the networks were made, or measured now."""
    path = folder / "agreement.json"
    if known := _known(path):  # without the lock: BONE_HOME may be a folder that is only read
        return known
    with vino.alone(folder):
        if known := _known(path):  # of another process, meanwhile
            return known
        mode = one.release.largest_mode  # whatever mode it is used in, all of its networks agree
        found = compare(one.in_mode(mode), other.in_mode(mode), _samples(one))
        write_json(path, asdict(found) | {"processor": int8.processor()})
    return found


def _known(path: Path) -> Agreement | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.pop("processor") == int8.processor():
            return Agreement(**known)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        log.debug("The engines are compared (again): there is no record of it for this processor.")
    return None


def compare(one: Cascade, other: Cascade, canvases: list[Canvas]) -> Agreement:
    """Both on the same canvases; pictures that neither assesses count with their body part."""
    pairs = list(zip(one.assess(canvases), other.assess(canvases), strict=True))
    largest = max((_difference(a, b) for a, b in pairs), default=0.0)
    equal = sum(_said(a) == _said(b) for a, b in pairs)
    return Agreement(len(pairs), largest, equal / max(1, len(pairs)))


def _difference(a: Assessment, b: Assessment) -> float:
    if a.body_part is None or b.body_part is None:  # one that gives no number agrees with none
        return 1.0
    parts = [abs(p - b.body_part.probabilities[k]) for k, p in a.body_part.probabilities.items()]
    if a.fracture and b.fracture and a.body_part.label == b.body_part.label:
        parts.append(abs(a.fracture.probability - b.fracture.probability))
        both = zip(a.fracture.members, b.fracture.members, strict=True)
        parts += [abs(m.probability - n.probability) for m, n in both]
    return max(parts)


def _said(found: Assessment) -> tuple[str, str | None]:
    label = found.body_part.label if found.body_part else ""
    return label, found.fracture.finding if found.fracture else None


def _samples(cascade: Cascade) -> list[Canvas]:
    canvases = []
    for path in sorted(SAMPLES.glob("*.png")):
        try:
            pixels = imaging.read(path, Settings().limits).pixels
        except ImageRejected:
            continue
        canvases.append(to_canvas(pixels, cascade.release.preprocessing))
    return canvases
