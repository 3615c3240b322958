"""The log: JSON lines in BONE_HOME/logs, rotated, with the ids that an error on a page shows.

No file's name and no patient's belongs in a message; what is logged is digests, counts and errors.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.files import make_private

FILE = "app.jsonl"
MOST_BYTES = 10 * 2**20
FILES_KEPT = 5
request: ContextVar[str] = ContextVar("request", default="")
"""Names one run of a page or one command in every line that it logs."""


class JsonLines(logging.Formatter):
    """A record as one line: time, level, logger, message, request, and where given error, trace."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request": request.get(),
            "process": record.process,
        }
        if error := getattr(record, "error", None):
            line["error"] = error
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Private(logging.handlers.RotatingFileHandler):
    """A rotating file that only its owner reads."""

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def start(home: Path) -> logging.Handler:
    """Write the log of this process to ``home/logs``, too; raises OSError where that cannot be.

    What this project logs is kept from INFO on, of libraries only warnings. A process has one log:
    an earlier one is closed.
    """
    stop()
    make_private(home)
    folder = home / "logs"
    folder.mkdir(exist_ok=True, mode=0o700)
    handler = _Private(folder / FILE, maxBytes=MOST_BYTES, backupCount=FILES_KEPT)
    handler.setFormatter(JsonLines())
    for logger in ("", "streamlit"):  # Streamlit's own do not go on to the root
        if logger == "" or not logging.getLogger(logger).propagate:
            logging.getLogger(logger).addHandler(handler)
    for logger in ("core", "pages", "training"):
        logging.getLogger(logger).setLevel(logging.INFO)
    return handler


def stop() -> None:
    """Close the log of this process, if there is one."""
    for logger in (logging.getLogger(), logging.getLogger("streamlit")):
        for handler in [h for h in logger.handlers if isinstance(h, _Private)]:
            logger.removeHandler(handler)
            handler.close()
