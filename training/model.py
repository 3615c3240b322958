"""The network as it is trained: one trunk, one layer4 that all branches share, and their heads.

In the joint phase the branches are tied: they share layer4, so that a part with few pictures
learns from all. In its own phase each branch gets a copy of layer4 and its own head, on the frozen
trunk. Heads beside the cascade's own (positives of forearm, leg, ...) only teach the trunk.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from core.network import Branch, Trunk
from training.data import PARTS
from training.phases import BODY_PART, OTHER

CLASSES = (*PARTS, OTHER)


class Joint(nn.Module, ABC):
    """Bx3xSxS -> logits by head: one network that answers for stage 1 and for every part."""

    heads: nn.ModuleDict

    def weight(self, name: str) -> Tensor:
        """The linear layer of a head, CxD."""
        head = self.heads[name]
        assert isinstance(head, nn.Linear)
        return head.weight

    @abstractmethod
    def answer(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Logits by head, the maps (BxDxhxw) that they were pooled from and, of a network that asks
        each cell, by part what the cells say (Bxhxw logits)."""


class PartlyFrozen(nn.Module):
    """A network of which some layers are not trained, nor the statistics of their batch norms."""

    def keep(self, modules: Iterable[nn.Module]) -> None:
        """Take these, which are parts of it, out of training."""
        names = {module: name for name, module in self.named_modules()}
        # By name: ``distributed.synchronise`` may put another batch norm in the place of one.
        self._kept = [names[module] for module in modules]
        for name in self._kept:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in getattr(self, "_kept", ()):
            self.get_submodule(name).eval()
        return self


class FrozenStages(PartlyFrozen):
    """A network whose trunk keeps its first 0, 1 or 2 stages as they are.

    A step is then half as long again as fast: the early layers are the ones with the large maps.
    """

    trunk: Trunk

    def freeze(self, stages: int) -> None:
        """Take the first stages out of training, with the statistics of their batch norms."""
        t = self.trunk
        self.keep([t.conv1, t.bn1, t.layer1, t.layer2][: 2 + stages] if stages else [])


class JointNetwork(FrozenStages, Joint):
    """Bx3xSxS -> logits by head: "body_part" (BxK) and one logit (Bx1) for each labelled part."""

    def __init__(
        self, parts: Iterable[str], freeze: int = 0, kinds: Sequence[str] = CLASSES
    ) -> None:
        """parts: that have a head of their own. kinds: classes of stage 1 (``data.kinds_of``)."""
        super().__init__()
        self.kinds = tuple(kinds)
        self.trunk = Trunk()
        branch = Branch(1)
        self.layer4, pooled = branch.layer4, branch.fc.in_features
        outputs = {BODY_PART: len(self.kinds)} | {p: 1 for p in parts}
        self.heads = nn.ModuleDict({n: nn.Linear(pooled, c) for n, c in outputs.items()})
        self.freeze(freeze)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.answer(x)[0]

    def answer(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        maps = self.layer4(self.trunk(x))
        pooled = maps.mean((2, 3))
        return {name: head(pooled) for name, head in self.heads.items()}, maps, {}

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Trunk and layer4 from a torchvision ResNet50 state dict; the heads stay as they are."""
        backbone = {k: v for k, v in state.items() if not k.startswith("fc.")}
        trunk = {k: v for k, v in backbone.items() if not k.startswith("layer4.")}
        self.trunk.load_state_dict(trunk)
        self.layer4.load_state_dict(
            {k.removeprefix("layer4."): v for k, v in backbone.items() if k not in trunk}
        )

    def load_student(self, state: Mapping[str, Tensor], parts: list[str]) -> None:
        """Trunk, layer4 and heads of a checkpoint of ``distill``; parts: its classes in order.

        Its body part has a class for every part. What stage 1 has no name for, and what the
        student had none for, starts as the mean of what is no part of the cascade.
        """
        backbone = {k.partition(".")[2]: v for k, v in state.items() if k.startswith("trunk.")}
        backbone |= {k.partition(".")[2]: v for k, v in state.items() if k.startswith("branch.")}
        self.load_backbone(backbone)
        for name, head in self.heads.items():
            if name in parts:
                row = parts.index(name)
                head.load_state_dict(
                    {k: state[f"positive.{k}"][row : row + 1] for k in ("weight", "bias")}
                )
        others = [i for i, p in enumerate(parts) if p not in PARTS]
        known = [[parts.index(k)] if k in parts and k != OTHER else others for k in self.kinds]
        rows = {k: state[f"branch.fc.{k}"] for k in ("weight", "bias")}
        self.heads[BODY_PART].load_state_dict(
            {k: torch.stack([v[i].mean(0) for i in known]) for k, v in rows.items()}
        )

    def load_heads(
        self, branches: Mapping[str, Mapping[str, Tensor]], classes: Sequence[str]
    ) -> None:
        """Heads of a release's branches (by their stage), where there are any of that name.

        classes: of its stage 1. What that has no name for starts as its "other".
        """
        for name, head in self.heads.items():
            if name == BODY_PART or name not in branches:
                continue
            head.load_state_dict({k: branches[name][f"fc.{k}"] for k in ("weight", "bias")})
        rows = [classes.index(k if k in classes else OTHER) for k in self.kinds]
        first = branches[BODY_PART]
        self.heads[BODY_PART].load_state_dict(
            {k: first[f"fc.{k}"][rows] for k in ("weight", "bias")}
        )

    def branch(self, name: str) -> Branch:
        """A branch of its own: a copy of layer4 and of the named head."""
        head = self.heads[name]
        assert isinstance(head, nn.Linear)
        with torch.device("meta"):
            branch = Branch(head.out_features)
        branch.layer4 = copy.deepcopy(self.layer4)
        branch.fc = copy.deepcopy(head)
        return branch
