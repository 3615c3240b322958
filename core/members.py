"""Several networks of one part -> one prediction: their calibrated logits, averaged by weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core import quality
from core.explain import grad_cam, joint_grad_cam
from core.registry import Stage
from core.stages import Activations, Network
from core.types import FracturePrediction, Heatmap, MemberPrediction

RESNET50 = "ResNet50"  # what the network of a stage is called beside its members


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
