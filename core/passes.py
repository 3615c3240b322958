"""The networks of a release on some pictures: each trunk's output is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core.engines import Engine
from core.manifest import Release
from core.recovery import NoNumber
from core.stages import Activations, Network


class Passes:
    """Of one call, by one thread. canvases: NxSxS uint8, N at least 1."""

    def __init__(
        self,
        release: Release,
        networks: Mapping[str, Network],
        engine: Engine,
        canvases: NDArray[np.uint8],
    ) -> None:
        self._release, self._networks = release, networks
        self._engine, self._canvases = engine, canvases
        self._features: dict[str, torch.Tensor] = {}

    def own(self, stage: str, index: Sequence[int] | None = None) -> list[Activations]:
        """A stage's own network on the canvases of ``index``, None for all; raises NoNumber."""
        return self.of(self._networks[stage], index)

    def members(self, stage: str, index: Sequence[int] | None = None) -> list[list[Activations]]:
        """The same of each network beside the stage's own; none in the mode fast."""
        if self._release.stages[stage].ensemble is None:
            return []
        return [self.of(member, index) for member in self._networks[stage].members]

    def of(self, network: Network, index: Sequence[int] | None = None) -> list[Activations]:
        """Maps and logits of one network; raises NoNumber where a logit is none."""
        features = self.features(network, index)
        if network.branch is None:
            maps = features.float().cpu().numpy()
        else:
            maps = np.stack([self._engine.branch(network.key, view) for view in features])
        if self._release.flip_average:
            maps[1] = maps[1, ..., ::-1].copy()
        found = []
        with np.errstate(over="ignore", invalid="ignore"):
            for m in maps.mean(0):
                logits = network.weight @ m.mean((1, 2)) + network.bias
                if not np.isfinite(logits).all():
                    raise NoNumber(f"{network.key} gave a logit that is no finite number.")
                found.append(Activations(logits, m))
        return found

    def features(self, network: Network, index: Sequence[int] | None = None) -> torch.Tensor:
        """The trunk's output: VxNxCxhxw, of V views (2 with the mirror image). That of all canvases
        is kept."""
        rows = list(range(len(self._canvases)) if index is None else index)
        key = network.stage.trunk
        if key in self._features:
            return self._features[key][:, rows]
        seen = self._canvases[rows]
        views = [seen, seen[:, :, ::-1]] if self._release.flip_average else [seen]
        found = torch.stack([self._engine.trunk(key, view) for view in views])
        if len(rows) == len(self._canvases):
            self._features[key] = found
        return found
