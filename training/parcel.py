"""A release as one file: a zip of its manifest entry and its safetensors, verified on the way in.

The file may come from anybody. Nothing is unpacked by its own names: each member that the entry
names is read up to the size it should have, hashed, and written to a place that is made here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from core import files
from core.batch.inputs import DAMAGED
from core.errors import WeightsInvalid
from core.manifest import Release, WeightsFile
from core.optional import absent_parts
from core.registry import FORMAT, Registry
from training import catalogue
from training.card import model_card
from training.catalogue import ID, ReleaseRefused
from training.release import MAX_FILE_BYTES, MAX_RELEASE_BYTES, needed_bytes

ENTRY = "release.json"
MAX_ENTRY_BYTES = 8 * 2**20
MAX_FILES = 32
BESIDE = ".parcel-"
AT_WORK = 3600.0  # seconds within which a zip is unpacked
NO_ZIP = "This file is no zip that can be read."
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\.safetensors")


def pack(weights: Path, release: str) -> bytes:
    """The zip of a release; raises WeightsInvalid for one that is damaged."""
    registry = Registry.open(weights)
    found = registry.find(release)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(ENTRY, json.dumps(found.raw, indent=1))
        for file in found.files.values():
            archive.writestr(file.path, registry.read(file))
    return out.getvalue()


def unpack(parcel: BinaryIO, weights: Path) -> str:
    """Verify a zip and add its release to the weights folder, without an alias; returns its id.

    Raises ReleaseRefused, and then nothing has changed.
    """
    with _opened(parcel) as archive:
        members = _members(archive)
        entry = _entry(archive, members)
        release = _release(entry, set(members))
        _refuse_names(release, entry, members)
        return _place(archive, release, entry, weights)


def _opened(parcel: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(parcel)
    except DAMAGED as error:
        raise ReleaseRefused(NO_ZIP) from error


def _release(entry: dict[str, Any], members: set[str]) -> Release:
    """The entry as a release of which a model card can be written."""
    try:
        absent = absent_parts(entry, members.__contains__)
        release = Release.from_json(entry, absent=absent)
        model_card(release)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ReleaseRefused("The entry of the release is not complete.") from error
    return release


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    listed = archive.infolist()
    names = [m.filename for m in listed]
    if len(names) > MAX_FILES or len(set(names)) != len(names):
        raise ReleaseRefused("This zip holds more files than a release has, or one twice.")
    if any(m.flag_bits & 1 for m in listed):
        raise ReleaseRefused("This zip is encrypted.")
    return dict(zip(names, listed))


def _entry(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    if ENTRY not in members:
        raise ReleaseRefused(f"This zip is no release: it has no {ENTRY}.")
    try:
        found = json.loads(_bytes(archive, ENTRY, MAX_ENTRY_BYTES))
    except (ValueError, RecursionError) as error:
        raise ReleaseRefused(f"{ENTRY} in the zip cannot be read.") from error
    if not isinstance(found, dict) or not ID.fullmatch(str(found.get("id"))):
        raise ReleaseRefused("The id of the release is not one that a folder can have.")
    return found


def _bytes(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member of at most so many bytes, whatever its header says of its size."""
    try:
        with archive.open(name) as file:
            data = file.read(most + 1)
    except DAMAGED as error:
        raise ReleaseRefused(NO_ZIP) from error
    if len(data) > most:
        raise ReleaseRefused(f"{name} in the zip is larger than it may be.")
    return data


def _refuse_names(
    release: Release, entry: dict[str, Any], members: dict[str, zipfile.ZipInfo]
) -> None:
    """Only the release's own folder, only safetensors, and exactly what the entry lists."""
    listed = release.files.values()
    if set(members) != {ENTRY, *release.files}:
        raise ReleaseRefused("The files in the zip are not those that its list names.")
    for file in listed:
        folder, _, name = file.path.partition("/")
        if folder != release.id or not _FILE.fullmatch(name):
            raise ReleaseRefused("A file in the zip has a name that no release uses.")
        if not isinstance(file.bytes, int) or not 0 <= file.bytes <= MAX_FILE_BYTES:
            raise ReleaseRefused(f"{name} is larger than a file of a release may be.")
    sizes = {f.path: f.bytes for f in listed}
    if needed_bytes(entry, sizes) > MAX_RELEASE_BYTES:
        raise ReleaseRefused("The release is larger than one may be.")


def _place(archive: zipfile.ZipFile, release: Release, entry: dict[str, Any], weights: Path) -> str:
    """Unpack beside the releases, load it there, and only then give it its place and its name."""
    weights.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(weights)
    beside = Path(tempfile.mkdtemp(dir=weights, prefix=BESIDE))
    try:
        (beside / release.id).mkdir()
        for file in release.files.values():
            (beside / file.path).write_bytes(_verified(archive, file))
        manifest = {"format": FORMAT, "aliases": {}, "releases": [entry]}
        files.write_json(beside / "manifest.json", manifest)
        try:
            catalogue.load(beside, release.id)
        except WeightsInvalid as error:
            raise ReleaseRefused(str(error)) from error
        with catalogue.locked(weights):
            catalogue.refuse_taken(weights, release.id)
            catalogue.remove_files(weights, release.id)  # what a crash may have left
            (beside / release.id).rename(weights / release.id)
            catalogue.append(weights, entry)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return release.id


def _remove_leftovers(weights: Path) -> None:
    """What a process that was killed has left, but not what another one may be unpacking."""
    for left in weights.glob(f"{BESIDE}*"):
        with suppress(FileNotFoundError):  # it has just got its place
            if time.time() - left.stat().st_mtime > AT_WORK:
                shutil.rmtree(left, ignore_errors=True)


def _verified(archive: zipfile.ZipFile, file: WeightsFile) -> bytes:
    data = _bytes(archive, file.path, file.bytes)
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise ReleaseRefused(f"{file.path} in the zip is damaged: its checksum is not the listed.")
    return data
