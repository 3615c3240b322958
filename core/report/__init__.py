"""One study -> a report to print (PDF) or to process (JSON)."""

from core.report.paper import pdf
from core.report.record import GONE, LIMITS, Decision, StudyReport, as_json

__all__ = ["GONE", "LIMITS", "Decision", "StudyReport", "as_json", "pdf"]
