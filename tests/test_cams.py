"""Maps from the grad-cam library, on a private copy and from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.cams import METHODS
from core.cascade import Cascade
from core.types import BodyPart
from tests.test_cascade import RADIOGRAPHS


@pytest.fixture(scope="module")
def cascade(wide: Cascade) -> Cascade:
    """A narrow one's evidence is negative all over in one of the methods: an empty map."""
    return wide


@pytest.mark.parametrize("method", [*METHODS])
def test_every_method_gives_a_map_scaled_by_the_probability(cascade, method):
    [result] = cascade.predict(RADIOGRAPHS[:1], BodyPart.HAND)
    heatmap = cascade.explain(RADIOGRAPHS[0], BodyPart.HAND, method)
    assert heatmap.method == method
    assert heatmap.values.dtype == np.float32
    assert heatmap.values.shape == (6, 6)  # the trunk's cells at 96 pixels
    top = heatmap.values.max()
    assert top == pytest.approx(result.fracture.probability, rel=1e-3)


def test_the_closed_form_is_what_predict_returns(cascade):
    [result] = cascade.predict(RADIOGRAPHS[:1], BodyPart.HAND)
    heatmap = cascade.explain(RADIOGRAPHS[0], BodyPart.HAND)
    np.testing.assert_array_equal(heatmap.values, result.heatmap.values)


def test_threads_get_their_own_maps_and_leave_nothing_behind(cascade):
    alone = [cascade.explain(r, BodyPart.ELBOW, "LayerCAM").values for r in RADIOGRAPHS[:8]]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda r: cascade.explain(r, BodyPart.ELBOW, "LayerCAM").values, RADIOGRAPHS[:8]
            )
        )
    for a, b in zip(alone, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    model = cascade._cams[BodyPart.ELBOW]._model
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None or not p.requires_grad for p in model.layer4.parameters())


def test_an_unknown_method_is_a_key_error(cascade):
    with pytest.raises(KeyError):
        cascade.explain(RADIOGRAPHS[0], BodyPart.ELBOW, "Guess-CAM")


def test_a_random_branch_gives_another_map(cascade):
    random = cascade.with_random_branches()
    ours = cascade.explain(RADIOGRAPHS[0], BodyPart.HAND).values
    theirs = random.explain(RADIOGRAPHS[0], BodyPart.HAND).values
    assert ours.shape == theirs.shape
    assert not np.allclose(ours, theirs, atol=1e-3)
