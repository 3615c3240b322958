"""``python -m core audit``: what was done, by whom and when; ``--verify`` checks the chain."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from core.errors import StoreUnavailable
from core.settings import Settings

if TYPE_CHECKING:
    from core.store import Store

HELP = "print or verify who did what on the worklist"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="find every edit and removal")


def run(options: argparse.Namespace, settings: Settings) -> int:
    from core.store import Store

    if not Store.is_made(settings):  # "0 lines, all well" of a home that is not used misleads
        home = settings.home.absolute()
        raise StoreUnavailable(f"There is no worklist in {home}; set BONE_HOME to where it is.")
    store = Store.open(settings, look=True)
    try:
        if options.verify:
            return _verify(store)
        for line in store.audit_lines():
            said = map(escaped, (line.event, line.actor, line.facts))
            print(line.number, line.time, *said, sep="\t")
        return 0
    finally:
        store.close()


def escaped(text: str) -> str:
    """A text as one field of one line: line breaks, tabs and what else is no sign as in JSON."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _verify(store: Store) -> int:
    report = store.verify_audit()
    print("\n".join(report.problems) or f"{report.entries} lines, all as they were written.")
    print(f"Line {report.entries}: {report.head}")
    return int(bool(report.problems))
