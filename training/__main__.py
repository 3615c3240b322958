"""Command line: ``python -m training COMMAND``; each command is a module in ``training.commands``.

Exit code 0 when it was done, 2 for wrong usage, 1 when it failed.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from core.errors import CascadeError, of_disk
from training.commands._options import of_options

COMMANDS = (
    "data",
    "folds",
    "distill",
    "fit",
    "calibrate",
    "member",
    "average",
    "screen",
    "evaluate",
    "joint",
    "heatmaps",
    "robustness",
    "strangers",
    "photographs",
    "corners",
    "quantise",
    "simulate",
    "release",
)


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    wanted = next((a for a in words if not a.startswith("-")), "")
    options = _parser(wanted).parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        return int(options.run(options, of_options(options)))
    except CascadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        logging.getLogger(__name__).debug("A file or folder refused.", exc_info=True)
        print(f"error: {of_disk(error)}", file=sys.stderr)
        return 1


def _parser(wanted: str) -> argparse.ArgumentParser:
    """All commands by name, and the options of the wanted one: reading them imports its module."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Retrain the cascade.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"training.commands.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        if name == wanted:
            module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
