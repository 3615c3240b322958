"""A network like the real one with an eighth of its channels, for tests of what is around it.

What a checkpoint of the real one holds (half a gigabyte) is most of the time that a tiny run takes.
Every block, name and phase is as in the real one; tests/test_network.py and the run of
tests/test_jobs.py have the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core import network
from training import curves, model

SHARE = 8


def shrink(patch: pytest.MonkeyPatch) -> None:
    """From now on networks are made with an eighth of the channels."""
    layers = tuple((width // SHARE, blocks, stride) for width, blocks, stride in network._LAYERS)
    trunk, branch = (network.EXPANSION * layers[n][0] for n in (2, 3))
    patch.setattr(network, "_LAYERS", layers)
    patch.setattr(network, "TRUNK_CHANNELS", trunk)
    patch.setattr(network, "BRANCH_CHANNELS", branch)
    patch.setattr(model, "TRUNK_CHANNELS", trunk)
    patch.setattr(model, "BRANCH_CHANNELS", branch)


@contextmanager
def networks() -> Iterator[None]:
    """Small networks inside; a release of real ones cannot be loaded meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield


@contextmanager
def runs() -> Iterator[None]:
    """Small networks, and no curves of their runs, which take longer than a tiny run does.

    tests/test_training.py and tests/test_curves.py draw them.
    """
    with networks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "write", lambda _: [])
        yield
