"""Command line: ``python -m core COMMAND``; each command is a module in ``core.commands``.

Exit code 0 when every input was handled (a rejected image is handled), 2 for wrong usage, 1 when
the program failed.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import CascadeError, of_disk
from core.settings import of_command
from core.types import Mode

COMMANDS = (
    "audit",
    "batch",
    "dicom",
    "health",
    "listen",
    "predict",
    "report",
    "verify",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it has no signs for is written out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(options.run(options, of_command(vars(options))))
    except CascadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 1
    except OSError as error:
        logging.getLogger(__name__).debug("A file or folder refused.", exc_info=True)
        print(f"error: {of_disk(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """All commands; their modules import what is heavy only when they run."""
    parser = argparse.ArgumentParser(prog="python -m core", description="Read bone radiographs.")
    parser.add_argument("--weights", type=Path, help="folder that has manifest.json")
    parser.add_argument("--release", help="release id or alias (default: champion)")
    parser.add_argument(
        "--mode", type=Mode, choices=[*Mode], help="fast or ensemble (default: that of the release)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"core.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
