"""The errors of the project, all under one base.

    CascadeError                  anything the program knows to go wrong
    ├── ImageRejected(reason)     this input cannot be read or is not a supported radiograph
    ├── WeightsInvalid            weights or manifest are missing, damaged or of another kind
    │   └── ReleaseNotFound       the manifest has no release or alias of that name
    ├── PartNotSupported          the release has no fracture model for a body part
    ├── DeviceUnavailable         the requested device is not there
    ├── EngineUnavailable         the requested engine is not installed or cannot be trusted here
    ├── PathRefused               a path outside of the folders that may be read
    ├── AccessRefused             nobody signed in, or not somebody who may do this
    ├── SettingsInvalid           a setting, of the environment or a command, has no meaning
    ├── BatchFailed               a batch cannot begin or go on
    │   └── BegunOtherwise        it was begun with another release, engine or list of files
    ├── NotWritable               a file that was asked for cannot be written
    └── StoreUnavailable          the worklist or a picture of it cannot be read or written
        ├── StoreOutdated         its tables are of an older version of the program
        ├── PictureLost           a picture of it is damaged, or gone for good
        ├── NotStorable           the database refuses what it is given, now and later
        ├── StudyNotFound         there is no such study (any more)
        └── DecisionConflict      the reader decided this study elsewhere in the meantime

Training adds DataInvalid (``training.sources``), FiguresInvalid (``training.measured``),
ReleaseRefused (``training.catalogue``, a WeightsInvalid) and JobRefused (``training.jobs``).

``str(error)`` is one plain sentence for the user. The cause is chained (``raise ... from``) and
goes to the log.
"""

from __future__ import annotations

import traceback


class CascadeError(Exception):
    """Base of every error that the project raises on purpose."""


class ImageRejected(CascadeError):
    """An input that is refused; ``reason`` is one plain sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WeightsInvalid(CascadeError):
    """A weights file or the manifest is missing, damaged or of another kind."""


class ReleaseNotFound(WeightsInvalid):
    """The manifest has no release or alias of that name."""


class PartNotSupported(CascadeError):
    """The release in use has no fracture model for a body part that was asked for."""


class DeviceUnavailable(CascadeError):
    """The requested device is not there."""


class PathRefused(CascadeError):
    """A path outside of the folders that may be read, or not a file or folder."""


class BatchFailed(CascadeError):
    """A batch cannot begin or go on; what was computed is kept."""


class BegunOtherwise(BatchFailed):
    """A batch was begun with something else; ``difference`` is one sentence, without the advice."""

    def __init__(self, difference: str, advice: str) -> None:
        super().__init__(f"{difference} {advice}")
        self.difference = difference


class EngineUnavailable(CascadeError):
    """The requested engine is not installed, or does not agree with torch here."""


class AccessRefused(CascadeError):
    """Nobody signed in where a login is needed, the role does not allow it, or there is no room."""


class SettingsInvalid(CascadeError):
    """A setting, in the environment or given to a command, has no meaning."""


class NotWritable(CascadeError):
    """A file that was asked for cannot be written."""


class StoreUnavailable(CascadeError):
    """The worklist or a picture of it cannot be read or written; nothing was changed."""


class StoreOutdated(StoreUnavailable):
    """The tables of the worklist are of an older version, and a look does not bring them up."""


class PictureLost(StoreUnavailable):
    """A picture of the worklist is damaged, or gone where all others are: for good."""


class NotStorable(StoreUnavailable):
    """The database refuses what it is given, which waiting does not change."""


class StudyNotFound(StoreUnavailable):
    """There is no such study, or its pictures were removed when their time was over."""


class DecisionConflict(StoreUnavailable):
    """The reader decided this study elsewhere in the meantime; nothing was overwritten."""


def where(error: Exception) -> str:
    """For the log: the kind of an error and its trace without the message, in which pydicom and
    highdicom quote values, names of patients too."""
    return "\n".join([type(error).__name__, *traceback.format_tb(error.__traceback__)]).rstrip()


def of_disk(error: OSError) -> str:
    """One plain sentence for what a file or folder refused: which one, and why."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename or 'A file'} cannot be read or written ({error.strerror})."
