"""What the environment says: an empty variable says nothing, and no number leads astray."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from core.access import Access
from core.errors import SettingsInvalid, StoreUnavailable
from core.settings import ROOT, Settings
from core.store import Store
from tests.conftest import own_settings

VARIABLES = (
    "BONE_DEVICE", "BONE_ENGINE", "BONE_MODE", "BONE_RELEASE", "BONE_WEIGHTS", "BONE_HOME",
    "BONE_ROOTS", "BONE_RETENTION_DAYS", "BONE_MAX_MEGABYTES", "BONE_MAX_SIDE",
    "BONE_MAX_MEGAPIXELS", "DATABASE_URL", "BONE_ROLES_CLAIM", "BONE_ADMINS", "BONE_IDLE_MINUTES",
    "BONE_SESSION_MEGABYTES", "BONE_OPEN_WITHOUT_LOGIN",
)  # fmt: skip


def test_every_variable_of_the_program_is_in_the_table_of_the_readme() -> None:
    said = (ROOT / "README.md").read_text(encoding="utf-8")
    table = said.partition("## Settings")[2].partition("\n## ")[0]
    code = [p for d in ("core", "training", "pages") for p in (ROOT / d).rglob("*.py")]
    used = {n for p in code for n in re.findall(r"BONE_[A-Z_]+", p.read_text(encoding="utf-8"))}
    assert {"BONE_HOME", "BONE_ADMINS", "BONE_STOW_AUTHORIZATION"} < used
    used.discard("BONE_RUN_LOCK")  # from the queue to its own process
    assert used <= set(re.findall(r"`(BONE_[A-Z_]+)`", table))


def test_tests_never_use_the_worklist_of_who_runs_them() -> None:
    environment = dict.fromkeys((*VARIABLES, "BONE_NEW"), "of a reader") | {"HOME": "/home/reader"}
    own_settings(environment)
    assert environment == {"HOME": "/home/reader", "BONE_ENGINE": "torch"}
    mine = {n for n in os.environ if n == "DATABASE_URL" or n.startswith("BONE_")}
    assert mine == {"BONE_ENGINE", "BONE_HOME"}


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_counts_as_not_set(empty: str) -> None:
    environment = dict.fromkeys(VARIABLES, empty)
    assert Settings.from_environment(environment) == Settings()
    assert Access.from_environment(environment) == Access.from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BONE_RETENTION_DAYS", "999999"),
        ("BONE_RETENTION_DAYS", "1e300"),
        ("BONE_MAX_SIDE", "0.5"),
        ("BONE_MAX_MEGABYTES", "1e-9"),
        ("BONE_MAX_MEGAPIXELS", "1e308"),
    ],
)
def test_a_number_out_of_range_is_a_sentence(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        Settings.from_environment({name: value})


def test_the_longest_retention_opens(tmp_path: Path) -> None:
    environment = {"BONE_HOME": str(tmp_path), "BONE_RETENTION_DAYS": "36500"}
    Store.open(Settings.from_environment(environment)).close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:a?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsInvalid, match="memory"):
        Store.open(Settings(home=tmp_path, database_url=url))


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite:///file:{}?uri=true"])
def test_a_database_elsewhere_is_private_too(tmp_path: Path, url: str) -> None:
    path = tmp_path / "elsewhere.sqlite"
    settings = Settings(home=tmp_path / "home", database_url=url.format(path))
    Store.open(settings).close()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # as an older version left it
    Store.open(settings).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/a.sqlite"
    with pytest.raises(StoreUnavailable, match="folder of the database"):
        Store.open(Settings(home=tmp_path, database_url=url))
