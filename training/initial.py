"""The weights that a run starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from core.compat import import_torchvision
from core.errors import WeightsInvalid
from core.registry import Registry
from core.settings import Settings
from training.data import DataInvalid
from training.model import BODY_PART, JointNetwork


def load(joint: JointNetwork, init: str) -> None:
    """Give ``joint`` the weights that ``init`` names; raises DataInvalid where there are none.

    init: "scratch", "imagenet", a file (a torchvision ResNet50 state dict, or ``checkpoint.pt`` of
    ``distill``, which has heads as well), or a release by id or alias.
    """
    if init == "scratch":
        return
    if (student_state := student(init)) is not None:
        joint.load_student(student_state, torch.load(init, weights_only=True)["parts"])
    else:
        joint.load_backbone(backbone(init))


def student(init: str) -> dict[str, Tensor] | None:
    """The distilled network with its heads where ``init`` is ``distill``'s checkpoint."""
    if not Path(init).is_file():
        return None
    state = torch.load(init, weights_only=True)
    return dict(state["student"]) if "student" in state else None


def backbone(init: str) -> dict[str, Tensor]:
    """Trunk and layer4 as a torchvision ResNet50 state dict: "imagenet", a file or a release."""
    if init == "imagenet":
        return imagenet()
    if Path(init).is_file():
        return dict(torch.load(init, weights_only=True))
    return released(init)


def imagenet() -> dict[str, Tensor]:
    """torchvision's first ImageNet ResNet50, downloaded once and checked against its hash.

    The first, not the second recipe: label smoothing and the like gain on ImageNet itself, but
    features as they are transfer worse (Kornblith et al. 2021, arXiv:2010.16402).
    """
    import_torchvision()
    from torchvision.models import ResNet50_Weights

    weights = ResNet50_Weights.IMAGENET1K_V1
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise DataInvalid(
            f"The ImageNet weights cannot be downloaded from {weights.url} ({error}). Fetch the "
            f"file elsewhere and give it as --init, or start from `python -m training distill`."
        ) from error


def released(name: str) -> dict[str, Tensor]:
    """Trunk and layer4 of a release's first stage, as a torchvision ResNet50 state dict.

    Stage 1 has learned from every picture; its layer4 is what the parts' own started from.
    """
    try:
        registry = Registry.open(Settings.from_environment().weights)
        release = registry.find(name)
        tensors = registry.load(release)
    except WeightsInvalid as error:
        raise DataInvalid(f"--init {name}: no such file, and no release. {error}") from error
    stage = release.stages[BODY_PART]
    return tensors[stage.trunk] | tensors[stage.branch]
