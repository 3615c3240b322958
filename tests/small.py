"""A network like the real one with an eighth of its channels, for tests of what is around it.

What a checkpoint of the real one holds (half a gigabyte) is most of the time that a tiny run takes,
and passes through it most of the time of a page's test. Every block, name and phase is as in the
real one; tests/test_network.py, tests/test_engines.py and tests/stress/test_retrain.py have that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core import network
from training import curves

WIDTH = network.WIDTH // 8


def shrink() -> None:
    """From now on, in this process, networks are made with an eighth of the channels."""
    network.WIDTH = WIDTH


@contextmanager
def runs() -> Iterator[None]:
    """No curves of runs inside, which take longer than a tiny run does.

    tests/test_training.py and tests/test_curves.py draw them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "write", lambda _: [])
        yield
