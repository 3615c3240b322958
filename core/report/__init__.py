"""One study -> a report to print (PDF) or to process (JSON)."""

from core.report.paper import pdf
from core.report.record import (
    GONE,
    LIMITS,
    SUPERSEDED,
    Decision,
    Reassessed,
    StudyReport,
    another_release,
    as_json,
)

__all__ = [
    "GONE",
    "LIMITS",
    "SUPERSEDED",
    "Decision",
    "Reassessed",
    "StudyReport",
    "another_release",
    "as_json",
    "pdf",
]
