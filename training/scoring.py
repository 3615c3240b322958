"""What the cascade says of each picture of a data set, the way a user would ask it.

Every picture goes through ``data.read_picture`` and ``Cascade.predict``.
"""

from __future__ import annotations

import math

import pandas as pd

from core.cascade import Cascade
from core.manifest import Stage
from core.quality import finding_of
from core.types import BodyPart, FracturePrediction, Radiograph
from training.data import radiographs, stage1_class
from training.phases import BODY_PART

MEMBER, ENSEMBLE = "member ", "ensemble"


def predict(cascade: Cascade, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with what the cascade said of each, without those that cannot be read.

    Added columns: ``said`` (body part, or "rejected"), ``truth`` (its class),
    ``named`` (the most probable body part, refused or not), ``sureness`` (its probability),
    ``looks_like`` (what an "other" was named, "" if nothing), ``side`` ("L", "R" or "", as the file
    says), ``probability`` (positive, given the
    true part; NaN for other parts), ``finding``, ``shown`` (positive, as the cascade says it of the
    part that it names; NaN where it refuses). Of a release with an ensemble, whatever mode it
    is used in, also what each network says (MEMBER and its name) and what they say together
    (ENSEMBLE).
    """
    columns = [
        *("said", "named", "sureness", "looks_like", "side", "probability", "finding", "shown")
    ]
    positions, scored = [], []
    for row, radiograph in radiographs(rows.reset_index(drop=True)):
        positions.append(row.Index)
        scored.append(_score(cascade, radiograph, row.part))
    said = pd.DataFrame([s[:-1] for s in scored], columns=columns)
    members = pd.DataFrame([s[-1] for s in scored], index=said.index, dtype=float)
    out = rows.iloc[positions].reset_index(drop=True).join(said).join(members)
    out["truth"] = [stage1_class(p, cascade.release.parts) for p in out.part]
    return out


def _score(
    cascade: Cascade, radiograph: Radiograph, part: str
) -> tuple[str, str, float, str, str, float, str, float, dict[str, float]]:
    """What ``predict`` adds to one picture whose true part is ``part``, in the same order."""
    whole = cascade.in_mode(cascade.release.largest_mode)
    stage1 = cascade if whole.release.stages[BODY_PART].ensemble else whole
    [result] = stage1.predict([radiograph])
    assert result.body_part is not None, result.reason
    named, sureness = result.body_part.label, result.body_part.probability
    said = named if result.reason is None else "rejected"
    fracture, like, side = result.fracture, result.body_part.looks_like, result.origin.side
    shown = math.nan
    if fracture is not None:
        shown = _in_mode(fracture, cascade.release.stages[named]).probability
    if part not in cascade.release.parts:
        return said, named, sureness, like, side, math.nan, "", shown, {}
    if said != part or stage1 is not whole:
        fracture = whole.predict([radiograph], BodyPart(part))[0].fracture
    assert fracture is not None
    members = {f"{MEMBER}{m.name}": m.probability for m in fracture.members}
    if members:
        members[ENSEMBLE] = fracture.probability
    fracture = _in_mode(fracture, cascade.release.stages[part])
    finding = fracture.finding.value
    return said, named, sureness, like, side, fracture.probability, finding, shown, members


def _in_mode(fracture: FracturePrediction, stage: Stage) -> FracturePrediction:
    """What the cascade says in its own mode, of what all its networks say: in the mode fast that is
    what the first of them says."""
    if not fracture.members or stage.ensemble is not None:
        return fracture
    alone = fracture.members[0].probability
    return FracturePrediction(alone, finding_of(alone, stage.operating_points))
