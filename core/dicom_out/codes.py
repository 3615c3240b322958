"""Codes and references that the structured report is made of."""

from __future__ import annotations

from highdicom.sr import CodedConcept, FindingSite
from pydicom.sr.codedict import codes

from core.dicom_out.source import View
from core.types import BodyPart, Finding

SCHEME = "99BONE"
SITES = {
    BodyPart("ankle"): codes.SCT.AnkleJoint,
    BodyPart.ELBOW: codes.SCT.ElbowJoint,
    BodyPart("foot"): codes.SCT.Foot,
    BodyPart("forearm"): codes.SCT.Forearm,
    BodyPart.HAND: codes.SCT.Hand,
    BodyPart("hip"): codes.SCT.Hip,
    BodyPart("humerus"): codes.SCT.Humerus,
    BodyPart("knee"): codes.SCT.Knee,
    BodyPart("leg"): codes.SCT.LowerLeg,
    BodyPart.SHOULDER: codes.SCT.Shoulder,
}


def sites(part: BodyPart | None, side: str = "") -> list[FindingSite] | None:
    """Where something was looked for; side: "L", "R" or "". None of a part without a code."""
    if part not in SITES:
        return None
    laterality = {"L": codes.SCT.Left, "R": codes.SCT.Right}.get(side)
    return [FindingSite(SITES[part], laterality=laterality)]


def finding_code(finding: Finding | None) -> CodedConcept | None:
    """Such as "Finding not suspected"; None without one."""
    if finding is None:
        return None
    return CodedConcept(finding.value, SCHEME, f"Finding {finding.words}")


def image_of(view: View) -> tuple[str, str, list[int] | None]:
    """SOP class, SOP instance, and the frame where there are several."""
    header = view.radiograph.header
    several = header is not None and header.frames > 1
    source = view.source
    return source.SOPClassUID, source.SOPInstanceUID, [view.frame] if several else None
