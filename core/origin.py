"""What a file says of the picture in it: kept with every result, and told with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RAW = "The file holds raw detector data, not the picture meant for reading."


def looked_at(frames: int, total: int) -> list[str]:
    """One sentence where not all frames of a file were assessed, else nothing."""
    verb = "was" if frames == 1 else "were"
    if frames >= total:
        return []
    return [f"Of a file with {total:,} frames {frames:,} {verb} assessed."]


@dataclass(frozen=True)
class Origin:
    """What the file says of the picture that was assessed, kept with the result.

    side: "L" or "R"; "" where the file does not say or the picture shows both. frame: which picture
    of the file's ``frames`` it is, from 1. cautions: what a reader must know before trusting the
    result, a sentence each.
    """

    side: str = ""
    frame: int = 1
    frames: int = 1
    cautions: tuple[str, ...] = ()

    @property
    def is_raw(self) -> bool:
        """Whether it is what the detector gave, of which another file may hold the picture."""
        return RAW in self.cautions

    @property
    def alone(self) -> tuple[str, ...]:
        """What a reader must know where no other frame of the file was looked at."""
        return (*self.cautions, *looked_at(1, self.frames))

    def to_json(self) -> dict[str, Any]:
        return {
            "side": self.side,
            "frame": self.frame,
            "frames": self.frames,
            "cautions": list(self.cautions),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Origin:
        cautions = tuple(record["cautions"])
        return cls(record["side"], record["frame"], record["frames"], cautions)
