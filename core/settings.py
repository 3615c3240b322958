"""Settings of the program, from the environment.

A command reads them as it begins, a page as it runs; training also where it looks for a release to
begin with (``training.initial.installed``) and where it reads pictures, for their limits. Every
variable starts with BONE_, but for DATABASE_URL, which is what others call it. The login has
settings of its own (``core.access``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import SettingsInvalid
from core.types import Mode

ROOT = Path(__file__).resolve().parent.parent


CHAMPION = "champion"  # the alias of the release that answers
DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("auto", "torch", "openvino", "openvino-int8")
MOST_DAYS = 36_500  # a hundred years: beyond that no calendar reaches back


@dataclass(frozen=True)
class ImageLimits:
    """What the decode boundary accepts; checked on the header, before any pixel is decoded."""

    max_bytes: int = 100 * 2**20
    max_side: int = 12_000
    max_pixels: int = 64_000_000
    min_side: int = 32


@dataclass(frozen=True)
class Settings:
    """The whole configuration of one process. A variable that is empty counts as not set.

    BONE_DEVICE: auto, cpu or cuda. BONE_ENGINE: one of ENGINES. BONE_RELEASE: a release id or
    alias. BONE_MODE: fast or ensemble; None is what the release has as its default. BONE_WEIGHTS:
    folder of manifest.json. BONE_HOME: folder of what the program keeps (database, pictures of the
    worklist, runs, logs). BONE_ROOTS: folders on this machine that the pages may read from,
    separated as in PATH; nothing outside of them is ever opened from a page. DATABASE_URL: where
    the worklist is; empty for SQLite in BONE_HOME. BONE_RETENTION_DAYS: after how many days
    batches, and pictures, names and comments of a study on the worklist are removed; None keeps
    them.
    BONE_MAX_MEGABYTES, BONE_MAX_SIDE, BONE_MAX_MEGAPIXELS: limits of one file.
    BONE_STOW_AUTHORIZATION: the header that STOW-RS is sent with.
    """

    device: str = "auto"
    engine: str = "auto"
    release: str = CHAMPION
    mode: Mode | None = None
    weights: Path = ROOT / "weights"
    home: Path = ROOT / "data"
    roots: tuple[Path, ...] = ()
    limits: ImageLimits = field(default_factory=ImageLimits)
    database_url: str = field(default="", repr=False)  # may hold a password
    retention_days: int | None = None
    stow_authorization: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read and validate; raises SettingsInvalid with the variable's name."""
        environment = given(environment)
        device = environment.get("BONE_DEVICE", "auto")
        if device not in DEVICES:
            raise SettingsInvalid(f"BONE_DEVICE must be auto, cpu or cuda, not {device!r}.")
        engine = environment.get("BONE_ENGINE", "auto")
        if engine not in ENGINES:
            raise SettingsInvalid(f"BONE_ENGINE must be {', '.join(ENGINES)}, not {engine!r}.")
        mode = environment.get("BONE_MODE") or None
        if mode and mode not in [*Mode]:
            raise SettingsInvalid(f"BONE_MODE must be {' or '.join(Mode)}, not {mode!r}.")
        default = ImageLimits()
        limits = ImageLimits(
            max_bytes=_positive(environment, "BONE_MAX_MEGABYTES", default.max_bytes, 2**20),
            max_side=_positive(environment, "BONE_MAX_SIDE", default.max_side, 1),
            max_pixels=_positive(environment, "BONE_MAX_MEGAPIXELS", default.max_pixels, 1_000_000),
        )
        return cls(
            device=device,
            engine=engine,
            release=environment.get("BONE_RELEASE", CHAMPION),
            mode=Mode(mode) if mode else None,
            weights=Path(environment.get("BONE_WEIGHTS", ROOT / "weights")),
            home=Path(environment.get("BONE_HOME", ROOT / "data")),
            roots=tuple(Path(p) for p in environment.get("BONE_ROOTS", "").split(os.pathsep) if p),
            limits=limits,
            database_url=environment.get("DATABASE_URL", ""),
            retention_days=_days(environment, "BONE_RETENTION_DAYS"),
            stow_authorization=environment.get("BONE_STOW_AUTHORIZATION", ""),
        )


def of_command(options: Mapping[str, Any]) -> Settings:
    """Those of the environment, but for what the options of a command say; raises SettingsInvalid.

    options: by name; one that is empty was not given.
    """
    names = ("weights", "release", "mode", "device", "engine")
    said = {name: options[name] for name in names if options.get(name)}
    return replace(Settings.from_environment(), **said)


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that say something: an empty one is how a shell or a container leaves one out.

    ``Path("")`` would be the folder that the program was started in.
    """
    return {name: text for name, text in environment.items() if text.strip()}


def number(environment: Mapping[str, str], name: str, default: float) -> float:
    """A positive number; raises SettingsInvalid."""
    try:
        value = float(environment.get(name, default))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsInvalid(f"{name} must be a positive number, not {environment[name]!r}.")
    return value


def _positive(environment: Mapping[str, str], name: str, default: int, unit: int) -> int:
    """A number of units as a whole number, at least one."""
    value = number(environment, name, default / unit) * unit
    if not 1 <= value < float("inf"):
        raise SettingsInvalid(f"{name} is out of range: {environment[name]!r}.")
    return int(value)


def _days(environment: Mapping[str, str], name: str) -> int | None:
    """Whole days, at least one; None where the variable is not set."""
    if name not in environment:
        return None
    value = number(environment, name, 0)
    if value > MOST_DAYS:
        raise SettingsInvalid(f"{name} must be at most {MOST_DAYS:,}; unset it to keep everything.")
    return max(1, int(value))
