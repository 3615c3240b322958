"""Several networks of one stage -> one answer: their calibrated logits, averaged by weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core import quality
from core.explain import grad_cam, joint_grad_cam
from core.manifest import RESNET50, Stage
from core.stages import Activations, Network
from core.types import FracturePrediction, Heatmap, MemberPrediction


def first(stage: Stage, logits: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Logits of stage 1 (...xK) from those of its networks, its own first, then its members'.

    Of the classes that all of them know, the logarithms of their probabilities, averaged by weight;
    of one that a member has not learned (no radiograph at all), what the stage's own network says
    of it beside the others.
    """
    ensemble = stage.ensemble
    assert ensemble is not None
    known = [c for c in stage.classes if all(c in m.classes for m in ensemble.members)]
    index = [stage.classes.index(c) for c in known]
    own = np.asarray(logits[0], np.float64)
    found = own - np.logaddexp.reduce(own[..., index], -1, keepdims=True)
    joined = ensemble.weights[0] * found[..., index]
    for member, said, weight in zip(
        ensemble.members, logits[1:], ensemble.weights[1:], strict=True
    ):
        values = np.asarray(said, np.float64)[..., [member.classes.index(c) for c in known]]
        joined += weight * (values - np.logaddexp.reduce(values, -1, keepdims=True))
    # Where they disagree it adds up to less than 1, which would favour what one alone says.
    found[..., index] = joined - np.logaddexp.reduce(joined, -1, keepdims=True)
    return found


def combine(
    stage: Stage, network: Network, activations: Sequence[Activations]
) -> tuple[FracturePrediction, Heatmap]:
    """What the members of ``stage.ensemble`` say together, and where.

    network: of the stage, with its members. activations: of one picture, the stage's own network
    first, then its members in their order.
    """
    ensemble = stage.ensemble
    assert ensemble is not None
    networks = (network, *network.members)
    members, logits, evidence = [], [], []
    names = (RESNET50, *(m.name for m in ensemble.members))
    for name, each, found, weight in zip(
        names, networks, activations, ensemble.weights, strict=True
    ):
        read = each.stage
        logit = float(found.logits[0])
        probability = quality.sigmoid(logit, read.temperature, read.bias)
        heatmap = grad_cam(found.maps, each.weight[0], probability)
        members.append(MemberPrediction(name, probability, weight, heatmap))
        logits.append(logit / read.temperature + read.bias)
        raw = np.tensordot(each.weight[0], found.maps, axes=1)
        evidence.append((raw / read.temperature).astype(np.float32))
    average = float(np.dot(ensemble.weights, logits))
    probability = quality.sigmoid(average, ensemble.temperature, ensemble.bias)
    said = [m.probability for m in members]
    finding = quality.finding_of(probability, stage.operating_points, said)
    heatmap = joint_grad_cam(evidence, ensemble.weights, probability)
    return FracturePrediction(probability, finding, tuple(members)), heatmap
