"""Studies by their Study Instance UID, whichever way an object comes: also where that is none."""

from __future__ import annotations

import logging

from core.dicom_out.source import derived_uid
from core.pacs.inbox import Inbox
from core.study import is_uid, study_uid_of, with_patient

log = logging.getLogger(__name__)
LONGEST = 64  # PS3.5 section 9.1


def keep(inbox: Inbox, uid: str, name: str, data: bytes) -> bool:
    """Put an object into the inbox by the UID of its study; False where that cannot be kept.

    uid: Study Instance UID as the object has it. name: of the object's file; one that comes again
    under it, corrected or compressed, is not a second view. Raises OSError.
    """
    key = _key(uid)
    if not key:
        return False
    if key != uid:  # which may be any text, a name too: only what stands in its place is logged
        log.warning(
            "The Study Instance UID of an object is none by the standard; it is taken, and %s "
            "stands in its place.",
            key,
        )
    inbox.put(key, name, data, instead=True, called=uid.strip())
    return True


def key_for(key: str, patient: str) -> str:
    """What the worklist knows a patient's part of a study by. key: of the inbox.

    A UID of few or odd numbers stands as it is where the file names a patient. Else it might be the
    name of a folder, which many have: another one that follows from it stands in its place.
    """
    is_odd = is_uid(key) and not study_uid_of(key)
    return with_patient(key, patient) if patient or not is_odd else derived_uid(key)


def _key(uid: str) -> str:
    """What the inbox keeps a study by: its Study Instance UID, or a UID in the place of an odd one.

    Else it would pass for the name of a file, which may be that of many studies: nothing that comes
    later would take its place. Where the odd one has other characters than numbers and dots,
    nothing is sent back: what is put beside its radiographs would need their UID. "" where there
    is none, or one that cannot be kept: PostgreSQL, for one, keeps no text with a NUL in it.
    """
    plain = uid.strip()
    if not plain or len(uid) > LONGEST or not uid.isprintable():
        return ""
    return plain if is_uid(plain) else derived_uid(plain)
