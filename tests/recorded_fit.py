"""``python -m training fit`` of a small network, which keeps the gradients of its first step."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from tests import small
from training import distributed
from training.__main__ import main

sum_gradients = distributed.sum_gradients


def keep_first(path: Path) -> None:
    """From now on write the first gradients that the processes have agreed on to ``path``."""

    def keep(parameters: Iterable[nn.Parameter]) -> None:
        every = list(parameters)
        sum_gradients(every)
        if distributed.first() and not path.exists():
            torch.save([None if p.grad is None else p.grad.clone() for p in every], path)

    distributed.sum_gradients = keep


if __name__ == "__main__":
    small.shrink()
    keep_first(Path(sys.argv[1]))
    sys.exit(main(["fit", *sys.argv[2:]]))
