"""What a DICOM header says beside the grey values: UIDs, body part, view, and remarks on them.

Only the standard's own words pass. Whatever else a device or a person wrote into a code string
could be a name, so it is dropped here, before it reaches a note, a log or a result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from core.origin import RAW, Origin
from core.types import BodyPart, DicomHeader, Radiograph

PROGRAM = "Bone Fracture Detection"  # Manufacturer of every object that this program makes
SEVERAL_PATIENTS = "The files belong to several patients; give one patient at a time."
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

# Body Part Examined (PS3.16 annex L, and spellings that devices use) and the part that a release
# would have a model of. MURA counts finger and wrist with the hand; see training/sources.py.
_PARTS: Mapping[str, BodyPart] = {
    **dict.fromkeys(("ELBOW", "ELBOW JOINT"), BodyPart.ELBOW),
    **dict.fromkeys(
        ("HAND", "WRIST", "FINGER", "THUMB", "WRIST JOINT", "HANDWRIST"), BodyPart.HAND
    ),
    **dict.fromkeys(("SHOULDER", "CLAVICLE", "SCAPULA", "ACJOINT"), BodyPart.SHOULDER),
    **dict.fromkeys(("FOREARM", "RADIUS", "RADIUSULNA", "ULNA"), BodyPart("forearm")),
    **dict.fromkeys(("HUMERUS", "UPPER ARM", "UPARM"), BodyPart("humerus")),
    **dict.fromkeys(("FOOT", "TOE", "HEEL", "CALCANEUS"), BodyPart("foot")),
    **dict.fromkeys(("ANKLE", "ANKLE JOINT"), BodyPart("ankle")),
    **dict.fromkeys(("KNEE", "KNEE JOINT", "PATELLA"), BodyPart("knee")),
    **dict.fromkeys(
        ("LEG", "LOWER LEG", "LOWLEG", "TIBIA", "FIBULA", "TIBIAFIBULA"), BodyPart("leg")
    ),
    **dict.fromkeys(("HIP", "HIP JOINT"), BodyPart("hip")),
    **dict.fromkeys(("CHEST",), BodyPart("chest")),
    **dict.fromkeys(
        (
            *("ABDOMEN", "ABDOMENPELVIS", "ARM", "BREAST", "COCCYX", "CSPINE", "EXTREMITY"),
            *("FEMUR", "HEAD", "JAW", "LSPINE", "MAXILLA", "MANDIBLE", "NECK", "NOSE", "ORBIT"),
            *("PELVIS", "RIB", "SKULL", "SSPINE", "SPINE", "STERNUM", "THIGH", "TLSPINE"),
            *("TSPINE", "ZYGOMA", "WHOLEBODY"),
        ),
        BodyPart.OTHER,
    ),
}
# Codes of Anatomic Region (PS3.16 CID 4009, SNOMED CT and the older SRT) where the word is missing.
_REGIONS = {
    **{"16953009": "ELBOW", "T-15750": "ELBOW", "85562004": "HAND", "T-D8700": "HAND"},
    **{"74670003": "WRIST", "T-15460": "WRIST", "7569003": "FINGER", "T-D8800": "FINGER"},
    **{"76505004": "THUMB", "T-D8810": "THUMB", "16982005": "SHOULDER", "T-D2220": "SHOULDER"},
    **{"51299004": "CLAVICLE", "T-12310": "CLAVICLE", "79601000": "SCAPULA", "T-12280": "SCAPULA"},
    **{"72696002": "KNEE", "T-D9200": "KNEE", "56459004": "FOOT", "T-D9700": "FOOT"},
    **{"51185008": "CHEST", "T-D3000": "CHEST", "89546000": "SKULL", "T-11100": "SKULL"},
}
# View Position (PS3.3 C.8.7.3, C.8.4.2; CID 4010) as devices write it.
_VIEWS = (
    "AP PA LL RL LLD LLO RLD RLO LAT LATERAL OBL OBLIQUE LPO RPO LAO RAO ML LM MLO LMO AXIAL "
    "TANGENTIAL SKYLINE YVIEW OUTLET INTERNAL EXTERNAL"
)
_PROJECTIONS = ("CR", "DX", "RG", "RF", "XA", "PX", "IO", "MG", "OT", "SC", "HC")
_OTHER_MODALITIES = {
    "CT": "computed tomography",
    "MR": "magnetic resonance",
    "US": "ultrasound",
    "NM": "nuclear medicine",
    "PT": "positron emission tomography",
    "BMD": "bone densitometry",
    **dict.fromkeys(("ES", "GM", "SM", "XC", "OP", "OCT", "OPT", "DMS"), "visible light"),
    **dict.fromkeys(("IVUS", "BDUS"), "ultrasound"),
    **dict.fromkeys(("RTIMAGE", "RTDOSE"), "radiotherapy"),
    **dict.fromkeys(("ECG", "HD", "DOC", "SEG"), "no imaging of the body"),
}


def header_of(dataset: Dataset, frame: int = 1) -> DicomHeader:
    """The header of frame ``frame`` (from 1) of a data set."""
    modality = _code(dataset, "Modality")
    view = _code(dataset, "ViewPosition")
    side = _code(dataset, "ImageLaterality") or _code(dataset, "Laterality")
    burned = {"YES": True, "NO": False}.get(_code(dataset, "BurnedInAnnotation"))
    return DicomHeader(
        study_uid=_uid(dataset, "StudyInstanceUID"),
        instance_uid=_uid(dataset, "SOPInstanceUID"),
        modality=modality if modality in _PROJECTIONS or modality in _OTHER_MODALITIES else "",
        body_part=_body_part(dataset),
        view_position=view if view in _VIEWS.split() else "",
        laterality=side if side in ("L", "R", "B", "U") else "",
        frames=max(1, int(dataset.get("NumberOfFrames") or 1)),
        frame=frame,
        burned_in=burned,
        patient=patient_of(dataset),
    )


def patient_of(dataset: Dataset) -> str:
    """12 hexadecimal digits of the Patient ID's SHA-256, "" without one.

    It keeps two patients under one Study Instance UID apart. Whoever guesses the ID can check it,
    so it goes nowhere that the files themselves do not.
    """
    named = str(dataset.get("PatientID") or "").strip()
    return hashlib.sha256(named.encode(errors="replace")).hexdigest()[:12] if named else ""


def is_own(dataset: Dataset) -> bool:
    """Whether this program made an object: its own picture with the heatmap is no further view."""
    return str(dataset.get("Manufacturer") or "").strip() == PROGRAM


def disagreement(
    header: DicomHeader | None, seen: BodyPart, parts: Sequence[BodyPart], chosen: bool = False
) -> str | None:
    """One sentence where the header's body part is not the one that stage 1 saw, or has no model.

    parts: that have one. chosen: a reader saw it. None where there is nothing to say.
    """
    said = _PARTS.get(header.body_part) if header else None
    if header is None or said is None:
        return None
    word = header.body_part.lower()
    if said == seen and said in parts:
        return None
    if said not in parts and seen == BodyPart.OTHER:
        return f"The file's header says {word}, a body part that has no fracture model here."
    part = "another body part" if seen == BodyPart.OTHER else f"the {seen.words}"
    by = "a reader says" if chosen else "the picture looks like"
    return f"The file's header says {word}, but {by} {part}: please check which is right."


def origin_of(
    radiograph: Radiograph, seen: BodyPart | None, parts: Sequence[BodyPart], chosen: bool
) -> Origin:
    """What is kept of a DICOM file beside its result.

    seen: what stage 1 took it for or, where it is ``chosen``, a reader; None where neither says
    it. parts: that have a model.
    """
    header = radiograph.header
    if header is None:
        return Origin(cautions=radiograph.cautions)
    side = header.laterality if header.laterality in ("L", "R") else ""
    conflict = disagreement(header, seen, parts, chosen) if seen else ""
    cautions = (*([conflict] if conflict else []), *radiograph.cautions)
    return Origin(side, header.frame, header.frames, cautions)


def cautions(header: DicomHeader, dataset: Dataset) -> Iterator[str]:
    """Sentences on what a reader must know before trusting the picture."""
    if header.modality in _OTHER_MODALITIES:
        kind = _OTHER_MODALITIES[header.modality]
        yield (
            f"The file comes from another kind of examination "
            f"(modality {header.modality}, {kind}), not from a radiograph."
        )
    elif _code(dataset, "Modality") and not header.modality:
        yield "The file comes from another kind of examination (an unknown modality)."
    if _is_capture(dataset):
        yield (
            "The file is a picture that a workstation made of another one: anything drawn or "
            "written on it was assessed with it."
        )
    if dataset.get("PresentationIntentType") == "FOR PROCESSING":
        yield RAW


def remarks(header: DicomHeader, dataset: Dataset) -> Iterator[str]:
    """Sentences on what a reader may want to know of the picture."""
    if header.frames > 1:
        yield f"The file has {header.frames:,} frames: this is frame {header.frame:,}."
    if dataset.get("LossyImageCompression") == "01":
        yield "The picture has undergone lossy compression."
    if header.burned_in:
        yield (
            "The file says that text is burned into the picture; it may name the patient and is "
            "not removed."
        )


def _is_capture(dataset: Dataset) -> bool:
    """Whether it is of a screen (PS3.3 C.8.6.1, C.7.6.1.1.2), as far as the file says."""
    conversion = _code(dataset, "ConversionType")
    if conversion:  # a scanned film is also called derived
        return conversion in ("WSD", "SYN")
    kind = [str(v).strip().upper() for v in dataset.get("ImageType") or ()]
    captured = dataset.get("SOPClassUID") == SecondaryCaptureImageStorage
    of_no_device = captured or _code(dataset, "Modality") in ("OT", "SC")
    return of_no_device and kind[:2] == ["DERIVED", "SECONDARY"]


def _body_part(dataset: Dataset) -> str:
    said = _code(dataset, "BodyPartExamined")
    if said in _PARTS:
        return said
    for item in dataset.get("AnatomicRegionSequence") or ():
        region = _REGIONS.get(str(item.get("CodeValue") or "").strip())
        if region:
            return region
    return ""


def _code(dataset: Dataset, keyword: str) -> str:
    """A code string (VR CS), upper case; of several values the first."""
    value: Any = dataset.get(keyword)
    if value is not None and not isinstance(value, str):
        value = next(iter(value), "") if hasattr(value, "__iter__") else ""
    return str(value or "").strip().upper()


def _uid(dataset: Dataset, keyword: str) -> str:
    value = str(dataset.get(keyword) or "")
    return value if len(value) <= 64 and _UID.fullmatch(value) else ""
