"""The worklist: studies, decisions, pictures and the audit. The only writer of the database."""

from core.store.audit import AuditLine, AuditReport
from core.store.records import (
    TELLING,
    Decision,
    Entry,
    Opinion,
    Query,
    Reassessment,
    Status,
    StudyRecord,
    Verdict,
    has_decided,
)
from core.store.store import PROGRAM, PURGE_SECONDS, Store
from core.study import Mark

__all__ = [
    "PROGRAM",
    "PURGE_SECONDS",
    "TELLING",
    "AuditLine",
    "AuditReport",
    "Decision",
    "Entry",
    "Mark",
    "Opinion",
    "Query",
    "Reassessment",
    "Status",
    "Store",
    "StudyRecord",
    "Verdict",
    "has_decided",
]
