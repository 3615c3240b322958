"""Fixtures: a release with random weights, and a cascade made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch

from core.cascade import Cascade
from core.network import Branch, Trunk
from core.store.database import FILE, Database
from core.transforms import Preprocessing, to_canvas, to_tensor
from tests import postgres, small
from tests.chromium import browser, driver, profile  # noqa: F401  (fixtures)
from tests.simulated import blob, phantom
from training import release


def own_settings(environment: MutableMapping[str, str]) -> None:
    """Take out what whoever runs the tests uses the program with, such as their worklist."""
    for name in [n for n in environment if n == "DATABASE_URL" or n.startswith("BONE_")]:
        del environment[name]
    environment["BONE_ENGINE"] = "torch"  # the tests of engines name theirs


small.shrink()
own_settings(os.environ)  # before any fixture, and what a test starts has a copy of it

PARTS = ("elbow", "hand", "shoulder", "other")


def random_release(weights: Path, size: int = 96, width: int | None = None) -> str:
    """Write a release whose network has seen nothing; its branches share two files.

    width: see ``core.network.Trunk``; None is that of ``tests.small``.
    """
    torch.manual_seed(0)
    modules = {"trunk": Trunk(width), "part": Branch(4, width), "fracture": Branch(1, width)}
    _see(**modules, spec=Preprocessing(size=size))
    tensors = {f"random/{n}.safetensors": release.half(m.state_dict()) for n, m in modules.items()}
    trunk = "random/trunk.safetensors"
    points = [
        {"name": "sensitive", "threshold": 0.3, "sensitivity": 0.95, "specificity": 0.5, "n": 40},
        {"name": "specific", "threshold": 0.7, "sensitivity": 0.5, "specificity": 0.9, "n": 40},
    ]
    stages = {
        part: {
            "trunk": trunk,
            "branch": "random/fracture.safetensors",
            "classes": ["positive"],
            "operating_points": points,
            "label_means": "fracture",
        }
        for part in PARTS[:3]
    }
    stages["body_part"] = {
        "trunk": trunk,
        "branch": "random/part.safetensors",
        "classes": list(PARTS),
    }
    entry = {
        "id": "random",
        "created": "2026-11-23",
        "stages": stages,
        "preprocessing": {"size": size, "mean": 0.449, "std": 0.226, "percentiles": [0.5, 99.5]},
        "licence": "none",
        "intended_use": "tests",
    }
    return release.write(weights, entry, tensors)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where the machine has all that the tests use (NOTHING_MISSING), a test that was skipped for
    want of it is a failure: nobody reads the skipped ones of a run that passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("NOTHING_MISSING") or reporter is None:
        return
    reasons = {str(report.longrepr) for report in reporter.stats.get("skipped", [])}
    if missing := [r for r in reasons if "not installed" in r or "There is no" in r]:
        reporter.write_line(f"Skipped though nothing may be missing here: {missing}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@torch.no_grad()
def _see(trunk: Trunk, part: Branch, fracture: Branch, spec: Preprocessing) -> None:
    """Make answers differ from picture to picture, or a mix-up of two would be seen by nobody.

    The batch norms get the statistics of pictures like those of the tests. Stage 1 says elbow, by
    about a half; a finding is doubtful, with evidence for it somewhere in the picture.
    """
    for module in (trunk, part, fracture):
        for m in module.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(m.weight, 0.6, 0.2)
                torch.nn.init.normal_(m.bias, 0.0, 0.2)
                m.momentum = None  # the mean of what is seen, not a moving one
    seen = [made(60 + 9 * n, 140 - 7 * n, seed=n) for n in range(10) for made in (phantom, blob)]
    x = to_tensor(np.stack([to_canvas(pixels, spec) for pixels in seen]), spec).contiguous()
    for branch in (part, fracture):
        branch.train()(trunk.train()(x))
        branch.fc.bias.zero_()
    features = trunk.eval()(x)
    for branch, spread in ((part, 0.15), (fracture, 0.3)):
        logits = branch.eval()(features).logits
        scale = torch.sign(logits.mean(0)) * spread / logits.std(0).clamp_min(1e-3)
        branch.fc.weight.mul_(scale[:, None])
        branch.fc.bias.sub_(scale * logits.mean(0))
    part.fc.bias[0] += 1.0


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    random_release(folder)
    return folder


@pytest.fixture(scope="session")
def cascade(weights: Path) -> Cascade:
    return Cascade.load(weights, device="cpu")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    """One whose networks have the width of the real ones."""
    folder = tmp_path_factory.mktemp("wide")
    random_release(folder, width=64)
    return Cascade.load(folder, device="cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BONE_HOME of one test: no test writes what the program keeps into the repository."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BONE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new SQLite database is a copy of one that was brought up by its steps: these take a tenth
    of a second, and hundreds of tests begin with one."""
    home, lock, bring_up = tmp_path_factory.mktemp("migrated"), Lock(), Database._migrate
    Database.open("", home).close()
    made = (home / FILE).read_bytes()

    def copied(self: Database) -> None:
        url = self._engine.url
        with lock:
            if url.get_backend_name() == "sqlite" and url.database:
                file = Path(url.database)
                log = file.with_name(f"{file.name}-wal")
                if file.exists() and file.stat().st_size == 0 and not log.exists():
                    file.write_bytes(made)
        bring_up(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_migrate", copied)
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real server, without a database's name."""
    if postgres.binaries() is None:
        pytest.skip("There is no PostgreSQL server: apt-get install postgresql.")
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def components() -> Iterator[None]:
    """Each AppTest reads the metadata of all packages for their components: once is enough."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        scan = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(autouse=True)
def cookies(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the browser of an AppTest remembers: nothing, where Streamlit has a mock."""
    kept: dict[str, str] = {}
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", kept)
    return kept


@pytest.fixture
def fresh_app(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process of the app that has loaded nothing."""
    import streamlit as st

    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.setenv("BONE_DEVICE", "cpu")
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
