"""The networks that a member of an ensemble may be, each behind one interface.

An architecture makes, from the release's preprocessing, a module that takes canvases normalised as
the release has it (Bx3xSxS) and gives maps (BxDxhxw) whose mean over the cells a linear layer
reads. What comes before the maps lies in one file (the trunk), the linear layer in another
(the branch), so Grad-CAM has the closed form of ``core.explain`` for all of them. A ResNet50 alone
has a part of its maps' way, layer4, in the branch.

Nothing is imported here that a release without such a member does not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.transforms import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

RESNET50 = "resnet50"
LITE2 = "efficientnet-lite2"
LITE2_LOCAL = "efficientnet-lite2-local"
STRIDE = 16  # of LITE2_LOCAL: pixels a side of a cell
VIT_TINY, VIT_SMALL = "vit-tiny-patch16", "vit-small-patch16"
NAMES = (RESNET50, LITE2, LITE2_LOCAL, VIT_TINY, VIT_SMALL)


def make(name: str, spec: Preprocessing, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """The feature extractor of an architecture; KeyError for a name that is not in NAMES.

    state: what it will be filled with, which says how wide a ResNet50 is.
    """
    if name == LITE2:
        from core.architectures.lite2 import EfficientNetLite2

        return EfficientNetLite2(spec)
    if name == LITE2_LOCAL:
        from core.architectures.local import LocalNetwork

        return LocalNetwork(spec)
    if name in (VIT_TINY, VIT_SMALL):
        from core.architectures.vit import SIZES, VisionTransformer

        return VisionTransformer(spec.size, *SIZES[name])
    if name == RESNET50:
        from core.network import Trunk

        return Trunk(len(state["conv1.weight"]) if state else None)
    raise KeyError(name)


def needs_float32(network: nn.Module) -> bool:
    """Whether a network is run in float32 where others are in the device's usual precision."""
    return bool(getattr(network, "full_precision", False))


def early(network: nn.Module, stages: int) -> list[nn.Module]:
    """The layers of an extractor before its maps of stride 4 (1) or 8 (2) end; none for 0.

    What training may leave as it is: they are the dear ones, with the large maps. Of a transformer,
    whose maps are all of one size, a third of the blocks each.
    """
    return [*network.early(stages)] if stages else []  # type: ignore[operator]
