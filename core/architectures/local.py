"""Local evidence: half an EfficientNet-Lite2, a logit for each cell, attention over the cells.

A crack is one or two pixels wide. In the mean over a whole picture, which is what the other
networks' linear layers read, it drowns. Here every cell of stride 16 says by itself whether a
finding lies in it (BagNet, Brendel and Bethge 2019, arXiv:1904.00760), and the picture's answer is
the mean of the cells, weighted by the softmax of what they say: the pooling by attention of
multiple-instance learning (Ilse et al. 2018, arXiv:1802.04712), with what is said itself as the
attention.

The maps that come out are the cells' logits times their weight times their number. Their mean is
that answer, so a linear layer reads them as it reads any network's, and Grad-CAM (``core.explain``)
shows the cells that decided.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, relu6

from core.architectures import STRIDE
from core.architectures.lite2 import EfficientNetLite2
from core.errors import SettingsInvalid
from core.transforms import Preprocessing

CHANNELS = 16  # of evidence: at least one for each labelled part
_BLOCKS = 11  # of the 21 of an EfficientNet-Lite2: as far as its maps of stride 16 with 88 channels
_FINE_BLOCKS = 7  # as far as those of stride 8
_FINE, _COARSE, _WIDE = 48, 88, 96  # channels at stride 8, at stride 16, and of what comes after
_DILATIONS = (1, 2, 3)
_RARE = -3.0  # the logit that an untrained cell begins with: few cells have a finding


class Around(nn.Module):
    """What lies around each cell, added to what it says: a bottleneck, BxCxhxw in and out."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Conv2d(channels, half, 1)
        self.look = nn.Conv2d(half, half, 3, padding=dilation, dilation=dilation)
        self.expand = nn.Conv2d(half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(relu(self.look(relu(self.reduce(x)))))


class LocalNetwork(nn.Module):
    """Bx3xSxS in the normalisation of ``spec`` -> Bx16x(S/16)x(S/16).

    Raises SettingsInvalid for a side that is no multiple of 16.

    It is run in float32: one cell decides, so what half precision rounds is not averaged out.
    The names of the first half's parameters are those of ``EfficientNetLite2``.
    """

    full_precision = True

    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        if spec.size % STRIDE:
            raise SettingsInvalid(
                f"A local network needs a side that is a multiple of {STRIDE}, not {spec.size}."
            )
        whole = EfficientNetLite2(spec)
        self.conv1, self.bn1 = whole.conv1, whole.bn1
        self.blocks = nn.Sequential(*list(whole.blocks)[:_BLOCKS])
        self.coarse = nn.Conv2d(_COARSE, _WIDE, 1)
        self.fine = nn.Conv2d(_FINE, _WIDE, 2, 2)
        self.around = nn.Sequential(*(Around(_WIDE, d) for d in _DILATIONS))
        self.out = nn.Conv2d(_WIDE, CHANNELS, 1)
        if torch.get_default_device().type != "meta":
            assert self.out.bias is not None
            nn.init.constant_(self.out.bias, _RARE)

    def early(self, stages: int) -> list[nn.Module]:
        """The layers with maps of stride 4 (1 stage) or 8 (2) and wider."""
        return [self.conv1, self.bn1, *list(self.blocks)[: (0, 4, _FINE_BLOCKS)[stages]]]

    def cells(self, x: Tensor) -> Tensor:
        """The logit of each cell by channel: Bx3xSxS -> Bx16xhxw."""
        x = relu6(self.bn1(self.conv1(x)))
        fine = self.blocks[:_FINE_BLOCKS](x)
        coarse = self.blocks[_FINE_BLOCKS:](fine)
        return self.out(relu(self.around(relu(self.coarse(coarse) + self.fine(fine)))))

    def forward(self, x: Tensor) -> Tensor:
        return attended(self.cells(x))


def attended(cells: Tensor) -> Tensor:
    """Logits BxCxhxw -> the same times their weight and their number: the mean of a map is the
    mean of its logits weighted by their softmax."""
    flat = cells.flatten(2)
    weighed = flat.softmax(2) * flat * flat.shape[2]
    return weighed.unflatten(2, cells.shape[2:])
