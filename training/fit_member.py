"""Train a network of another architecture on the data and in the loop of the cascade's own.

One extractor with a head for stage 1 and one for each labelled part, in one joint phase: the same
splits, draws, augmentation, losses and validation as the ResNet50's. ``python -m training member
--init RUN`` puts what comes out beside a release's ResNet50.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from core import architectures, files
from core.architectures.local import LocalNetwork, attended
from core.network import channels_last
from core.transforms import Preprocessing
from training import curves, distributed, initial, networks
from training.data import PARTS, DataInvalid
from training.fit import Run
from training.model import Joint, PartlyFrozen
from training.networks import NETWORKS, Layers
from training.phases import BODY_PART

log = logging.getLogger(__name__)


class MemberNetwork(PartlyFrozen, Joint):
    """Bx3xSxS -> logits by head, as ``model.JointNetwork``, from one of ``core.architectures``."""

    def __init__(
        self,
        arch: str,
        spec: Preprocessing,
        parts: Iterable[str],
        kinds: Sequence[str],
        freeze: int,
    ) -> None:
        """freeze: what stays as it is, see ``architectures.early``."""
        super().__init__()
        self.features = architectures.make(arch, spec)
        with torch.inference_mode():
            width = self.features.eval()(torch.zeros(1, 3, spec.size, spec.size)).shape[1]
        local = arch == architectures.LITE2_LOCAL
        # In this order: what a checkpoint keeps of the optimiser has no names.
        outputs = ({} if local else {BODY_PART: len(kinds)}) | dict.fromkeys(parts, 1)
        self.heads = nn.ModuleDict({n: nn.Linear(width, c) for n, c in outputs.items()})
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        kept = architectures.early(self.features, freeze)
        if local:
            if len(outputs) > width:
                raise DataInvalid(f"A local network has {width} parts at most: {len(outputs)}.")
            for channel, name in enumerate(self.heads):  # each part has a channel of its own
                nn.init.ones_(self.weight(name)[0, channel])
            # Their statistics are those of whole pictures, and it learns from windows first.
            kept += [m for m in self.features.modules() if isinstance(m, nn.BatchNorm2d)]
        self.keep(kept)
        for module in self.features.modules():
            # Few of the weights, and on a CPU their gradient is most of a step.
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.requires_grad_(False)

    def answer(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        said = {}
        if isinstance(self.features, LocalNetwork):
            cells = self.features.cells(x)
            maps = attended(cells)
            said = {name: cells[:, channel] for channel, name in enumerate(self.heads)}
        else:
            maps = self.features(x)
        pooled = maps.mean((2, 3))
        return {name: head(pooled) for name, head in self.heads.items()}, maps, said


class MemberRun(Run):
    """A run whose one phase is the joint one, of another network than the ResNet50."""

    def fit(self) -> Path:
        """The phase, from the last checkpoint; returns the path of ``networks.pt``."""
        s = self.settings
        torch.manual_seed(s.seed)
        network = MemberNetwork(s.arch, self.spec, self.parts, self.kinds, s.freeze)
        if initial.is_release(self.init):
            self._take_over(network, *initial.member(self.init, s.arch))
        elif (run := initial.run(self.init)) is not None:
            # Of another size too: what was begun on small pictures may go on with large ones.
            self._take_over(network, *networks.layers(networks.trained(run, s.arch)))
        elif s.init != "scratch":
            state = initial.features(s.arch, self.spec, "" if s.init == "imagenet" else s.init)
            network.features.load_state_dict(state)
        distributed.synchronise(channels_last(network.to(self.device.processor)))
        saved = self._checkpoint()
        distributed.wait()
        best = self._phase(self._joint_phase(network), saved, saved["done"] if saved else {})
        if distributed.first():
            self._write(best)
        return self.folder / NETWORKS

    def _rows(self) -> pd.DataFrame:
        """A local network learns from labelled pictures alone: it has no stage 1."""
        rows = super()._rows()
        if self.settings.arch == architectures.LITE2_LOCAL:
            return rows[rows.positive.notna()].reset_index(drop=True)
        return rows

    def _needed(self) -> tuple[str, ...]:
        """Without a label of any part of the cascade it learns from the other parts, as a start for
        runs that have some: those may hold back what it was to know nothing of."""
        labelled = pd.concat([self.train.rows, self.validation.real.rows])
        labelled = labelled[labelled.positive.notna()]
        if labelled.part.isin(PARTS).any() or not self.parts:
            return super()._needed()
        log.warning(
            "There is no label of %s: what comes out has no finding of them and is a start for "
            "another run, no member of a release.", ", ".join(PARTS),
        )  # fmt: skip
        return ()

    def _take_over(
        self, network: MemberNetwork, features: dict[str, Tensor], heads: Layers
    ) -> None:
        """The weights of a trained network of this architecture, with the heads that it has; a part
        or a kind that it does not know begins at zero."""
        features = initial.fitting(self.settings.arch, self.spec, features)
        network.features.load_state_dict(features)
        for name, (layer, classes) in heads.items():
            if name not in network.heads:
                continue
            own = self.kinds if name == BODY_PART else classes
            shared = [(own.index(c), k) for k, c in enumerate(classes) if c in own]
            head = network.heads[name]
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                for to, of in shared:
                    head.weight[to] = layer["weight"][of]
                    head.bias[to] = layer["bias"][of]

    def _write(self, best: dict[str, Tensor]) -> None:
        complete: dict[str, Any] = {
            "arch": self.settings.arch,
            "features": _below(best, "features."),
            "heads": _below(best, "heads."),
            "size": self.spec.size,
            "focus": self.spec.focus,
            "kinds": list(self.kinds),
        }
        files.save_checkpoint(self.folder / NETWORKS, complete)
        curves.write(self.folder)
        curves.to_tensorboard(self.folder)
        self.status.write("finished", 1.0)


def _below(state: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
