"""The worklist: studies, decisions, pictures and the audit. The only writer of the database."""

from core.store.audit import AuditLine, AuditReport
from core.store.records import (
    Decision,
    Entry,
    Mark,
    Opinion,
    Query,
    Status,
    StudyRecord,
    Verdict,
)
from core.store.store import Store

__all__ = [
    "AuditLine",
    "AuditReport",
    "Decision",
    "Entry",
    "Mark",
    "Opinion",
    "Query",
    "Status",
    "Store",
    "StudyRecord",
    "Verdict",
]
