"""OpenVINO's networks in int8, made by NNCF, and used only where they were seen to lose nothing.

Rounding to 8 bits moves every probability a little, and what that costs only labelled radiographs
can tell. So nothing here decides for itself: ``python -m training quantise`` makes the networks,
measures them against those they were made from, and writes the outcome beside them. An outcome is
of one release in every mode it can be used in, for a reader may change that at any time; of one
version of OpenVINO; and of one processor, whose instructions may round otherwise.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engines import vino
from core.errors import EngineUnavailable
from core.files import write_json
from core.manifest import Release
from core.transforms import to_tensor
from core.types import Mode

FINDINGS = 0.99  # of the assessed radiographs have to keep body part and finding
AUROC = 0.005  # by which a part's may differ
HEATMAPS = 0.95  # median rank correlation; two runs of bf16 and float32 are at 0.99
CHECK = "check.json"


@dataclass(frozen=True)
class Check:
    """What int8 is in one mode, measured against the networks it was made from, on labelled
    radiographs.

    mode: of the release. processor: its name. data: what was measured on, in words. pictures: how
    many, and assessed: how many of them either of the two assessed. findings: share of the assessed
    with the same body part, refusal and finding. auroc: of each part, before and after. heatmaps:
    median rank correlation. faster: how many times.
    """

    mode: Mode
    processor: str
    data: str
    pictures: int
    assessed: int
    findings: float
    auroc: dict[str, tuple[float, float]]
    heatmaps: float
    faster: float

    @property
    def objections(self) -> list[str]:
        """Why it is not to be used; empty where it loses nothing."""
        found = [
            f"the AUROC of the {part} is {after:.3f} instead of {before:.3f}"
            for part, (before, after) in self.auroc.items()
            if not abs(after - before) <= AUROC
        ]
        if not self.auroc or not self.assessed:
            found.append("there was nothing labelled to measure on")
        elif self.findings < FINDINGS:
            found.append(f"only {self.findings:.1%} of {self.assessed} findings are equal")
        if not self.heatmaps >= HEATMAPS:
            found.append(f"heatmaps correlate by {self.heatmaps:.2f} only")
        if self.faster <= 1:
            found.append("it is no faster here")
        return [f"in the mode {self.mode} {objection}" for objection in found]

    def __str__(self) -> str:
        parts = ", ".join(f"{p} {b:.3f} and {a:.3f}" for p, (b, a) in self.auroc.items())
        return (
            f"Mode {self.mode}: {self.faster:.1f} times as fast; {self.findings:.1%} of "
            f"{self.assessed} findings equal; AUROC before and after: {parts}; heatmaps correlate "
            f"by {self.heatmaps:.3f} ({self.data}, {self.pictures} radiographs)."
        )


def processor() -> str:
    """The name of this computer's processor."""
    return str(vino.library().Core().get_property("CPU", "FULL_DEVICE_NAME"))


def accepted(home: Path, release: Release) -> tuple[Path, tuple[Check, ...]]:
    """The networks of a release that may be used here, in whatever mode, with the check of each.

    Raises EngineUnavailable with the reason.
    """
    folder = vino.folder_of(home, release.sha256, "int8")
    checks = _recorded(folder)
    if {check.mode for check in checks} != set(release.modes) or not vino.is_whole(folder):
        raise EngineUnavailable(
            "int8 was not checked here; `python -m training quantise` does, on labelled data."
        )
    if objections := [o for check in checks for o in check.objections]:
        raise EngineUnavailable(f"int8 was checked here and refused: {objections[0]}.")
    if others := [check.processor for check in checks if check.processor != processor()]:
        raise EngineUnavailable(f"int8 was checked on another processor ({others[0]}).")
    return folder, checks


def record(folder: Path, checks: Sequence[Check]) -> None:
    """Write the outcome of each mode beside the networks, where ``accepted`` finds it."""
    write_json(folder / CHECK, [asdict(check) for check in checks])


def _recorded(folder: Path) -> tuple[Check, ...]:
    """Empty where there is no outcome, or that of a version which measured one mode alone."""
    try:
        return tuple(map(_check, json.loads((folder / CHECK).read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _check(found: dict[str, Any]) -> Check:
    known = {f.name: found[f.name] for f in fields(Check)}
    auroc = {part: (b, a) for part, (b, a) in found["auroc"].items()}
    return Check(**known | {"mode": Mode(found["mode"]), "auroc": auroc})


def quantise(source: Path, folder: Path, canvases: NDArray[np.uint8], release: Release) -> None:
    """Write the networks of ``source`` in int8; all or nothing, and without an outcome yet.

    source: what ``vino.convert`` wrote. canvases: NxSxS uint8, on which the ranges of the
    activations are measured; they need no labels and must not be those of the check. Raises
    EngineUnavailable where NNCF is not installed. What only an ensemble runs stays as it is.
    """
    openvino, nncf = vino.library(), _nncf()
    facts = json.loads((source / "files.json").read_text(encoding="utf-8"))
    engine, core = vino.OpenVinoEngine(source, release.preprocessing), openvino.Core()
    ours = {*release.stages, *(stage.trunk for stage in release.stages.values())}
    with vino.replaced(folder) as made:
        for name, file in facts["networks"].items():
            kind, _, key = name.partition(" ")
            if key not in ours:
                for part in (made / file, made / file.replace(".xml", ".bin")):
                    shutil.copyfile(source / part.name, part)
                continue
            if kind == "trunk":
                given = to_tensor(canvases, release.preprocessing)
            else:
                given = engine.trunk(release.stages[key].trunk, canvases)
            model = nncf.quantize(
                core.read_model(source / file),
                nncf.Dataset([vino.shared(x[None].contiguous()) for x in given]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(canvases),
            )
            openvino.save_model(model, made / file, compress_to_fp16=False)
        vino.write_facts(made, facts["precision"], facts["networks"], "int8")


def _nncf() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise EngineUnavailable(
            "NNCF is not installed: pip install -r requirements-int8.txt."
        ) from error
    return nncf
