"""manifest.json -> a verified, loaded release. The only module that reads weights.

Every file is read once into memory, its SHA-256 compared with the manifest, and only then parsed:
a flipped bit in a safetensors file loads without an error otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ReleaseNotFound, WeightsInvalid
from core.manifest import Release, WeightsFile
from core.optional import absent_parts
from core.types import Mode

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
_LFS_POINTER = b"version https://git-lfs"


def read_entry(folder: Path, entry: Mapping[str, Any]) -> Release:
    """A manifest entry as it can be used with the files that are in ``folder``."""
    try:
        absent = absent_parts(entry, lambda path: (folder / path).exists())
    except (KeyError, TypeError, AttributeError, ValueError):
        absent = {}  # ``from_json`` says what is wrong with it
    return Release.from_json(entry, absent=absent)


def release_of(folder: Path, name: str, sha256: str) -> Release | None:
    """Of a weights folder the release of that id, in the mode and with the parts that have this
    digest; None where it is not there any more.

    Raises WeightsInvalid where the manifest cannot be read, as while weights are copied: who can
    wait then learns that it need not be gone.
    """
    found = Registry.open(folder).releases.get(name)
    return found.with_digest(sha256) if found is not None else None


def used(folder: Path, name: str, sha256: str) -> Release | None:
    """``release_of`` for who shows at once what there is: None also for a damaged manifest."""
    try:
        return release_of(folder, name, sha256)
    except WeightsInvalid:
        return None


@dataclass(frozen=True)
class Registry:
    """The releases of one weights folder.

    unreadable: a sentence for each release that this version cannot read; the others can be used.
    """

    folder: Path
    aliases: dict[str, str]
    releases: dict[str, Release]
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Registry:
        """Read ``folder/manifest.json``; raises WeightsInvalid if it is missing or damaged."""
        path = folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise WeightsInvalid(f"{path.name} has format {manifest['format']}, not {FORMAT}.")
            found = cls(folder, dict(manifest["aliases"]), {})
            for entry in manifest["releases"]:
                found._take(str(entry["id"]), entry)
            return found
        except FileNotFoundError as error:
            raise WeightsInvalid(f"There is no {path.name} in the weights folder.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsInvalid(f"{path.name} in the weights folder cannot be read.") from error

    def _take(self, release_id: str, entry: Mapping[str, Any]) -> None:
        try:
            self.releases[release_id] = read_entry(self.folder, entry)
        except (WeightsInvalid, AttributeError) as error:
            self.unreadable[release_id] = str(error)

    def find(self, name: str, mode: Mode | None = None) -> Release:
        """The release of that id or alias, in its default mode or the one named; raises
        ReleaseNotFound, or WeightsInvalid for one that this version cannot read or that has no such
        mode."""
        release_id = self.aliases.get(name, name)
        release = self.releases.get(release_id)
        if release is None and release_id in self.unreadable:
            raise WeightsInvalid(self.unreadable[release_id])
        if release is None:
            known = ", ".join((*self.aliases, *self.releases)) or "none"
            raise ReleaseNotFound(f"There is no release {name!r}; known are: {known}.")
        return release.in_mode(mode or release.mode)

    def read(self, file: WeightsFile) -> bytes:
        """The bytes of one file, checked; raises WeightsInvalid naming the file."""
        path = (self.folder / file.path).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise WeightsInvalid(f"The manifest names a file outside of its folder: {file.path}.")
        try:
            with path.open("rb") as stream:
                data = stream.read(file.bytes + 1)
        except OSError as error:
            raise WeightsInvalid(f"The weights file {file.path} cannot be read.") from error
        if data.startswith(_LFS_POINTER):
            raise WeightsInvalid(
                f"The weights file {file.path} is only a pointer; fetch it with: git lfs pull."
            )
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise WeightsInvalid(
                f"The weights file {file.path} is damaged: its checksum is not the one in the "
                f"manifest. Restore it from the original release."
            )
        return data

    def load(self, release: Release) -> dict[str, dict[str, Tensor]]:
        """All tensors of a release, float32, by file path; raises WeightsInvalid."""
        return {path: self._tensors(file) for path, file in release.files.items()}

    def _tensors(self, file: WeightsFile) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(self.read(file))
        except (SafetensorError, ValueError) as error:
            raise WeightsInvalid(f"The weights file {file.path} is no safetensors file.") from error
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}

    def verify(self, release: Release) -> list[str]:
        """A sentence for each file of the release that is missing or damaged."""
        problems = []
        for file in release.files.values():
            try:
                self.read(file)
            except WeightsInvalid as error:
                problems.append(str(error))
        return problems
