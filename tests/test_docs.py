"""What the documents promise is there: links, their anchors, and commands with their options."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.__main__ import COMMANDS, _parser
from core.settings import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub names them."""
    found = re.findall(r"^#+ (.+)$", BLOCK.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_a_link_leads_somewhere(path: Path) -> None:
    for address in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text(path))):
        if "://" in address:
            continue
        name, _, anchor = address.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), address
        assert not anchor or anchor in anchors(there), address


def shown(program: str) -> Iterator[list[str]]:
    """The words of each command of a program in the blocks of the documents."""
    command = re.compile(rf"-m {program} +([a-z-].*)")
    for path in DOCUMENTS:
        for block in BLOCK.findall(text(path)):
            for line in block.replace("\\\n", " ").splitlines():
                said = re.sub(r"[\[\]]| [#>] .*", "", line)
                if found := command.search(said):
                    yield shlex.split(found[1].replace("…", "folder:DIR"))


def unexplained(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """The options of a command that do not say what they are."""
    [found] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [one.dest for one in found.choices[command]._actions if not one.help]


def test_a_command_takes_what_it_is_shown_with() -> None:
    commands = list(shown("core"))
    assert len(commands) > 9
    for words in commands:
        assert _parser().parse_args(words), words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    assert unexplained(_parser(), name) == []
