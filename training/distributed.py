"""Several processes that train the one model a single process would: ``torchrun -m training fit``.

One process a GPU (NCCL), or any number on the CPU (Gloo). Every process draws the same global batch
from the step's seed and takes its share of it. Three things make the result that of one process:

- each loss is a sum over the share, divided by the count of the *global* batch, and gradients are
  summed, not averaged: so a process with few labelled pictures weighs as little as it should;
- batch norm takes mean and variance over the global batch (``synchronise``);
- a picture's augmentation is seeded by its place in the global batch, not by who draws it.

``DistributedDataParallel`` is not used: it divides by the number of processes, and would want
wrapping and unwrapping in each phase. Where torchrun has not set its variables, all this does
nothing. The processes share one run folder, and only the first writes to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.errors import DeviceUnavailable

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The first process may read a large data set for copies while the others wait for it.
TIMEOUT = timedelta(hours=2)


@contextmanager
def processes(device: str) -> Iterator[None]:
    """The group that torchrun started, if it did; device: auto, cpu or cuda.

    After an error the group is left as it is: closing it may wait for processes that wait for this
    one. torchrun ends them when the first has gone.
    """
    if not all(v in os.environ for v in VARIABLES):
        yield
        return
    if device != "cpu" and torch.cuda.is_available():
        gpu = _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=gpu)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    if not first():
        logging.getLogger("training").setLevel(logging.ERROR)  # the first says it for all
    yield
    dist.destroy_process_group()


def _take_gpu(number: int) -> torch.device:
    """Make this process's GPU the one that "cuda" means."""
    if number >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"There are more processes than GPUs ({torch.cuda.device_count()}) on this machine."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        dist.barrier()


def share(whole: np.ndarray) -> np.ndarray:
    """This process's part of what all processes have: every world()-th item."""
    return whole[rank() :: world()]


def unite(mine: list[T]) -> list[T]:
    """The results of all processes, in the order that ``share`` took the items from."""
    if world() == 1:
        return mine
    shares: list[list[T]] = [[] for _ in range(world())]
    dist.all_gather_object(shares, mine)
    longest = max(len(s) for s in shares)
    return [s[i] for i in range(longest) for s in shares if i < len(s)]


class _Total(torch.autograd.Function):
    """Sum over processes. All use the sum, so its gradient is the sum of theirs.

    ``torch.distributed.nn.functional.all_reduce`` is this, and deprecated in favour of a private
    module.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same bits in each; differentiable."""
    return _Total.apply(x) if world() > 1 else x


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum every gradient over the processes, in one message.

    A head without a picture in this share has none here but may have one elsewhere. One that has
    none anywhere keeps None, so that the optimiser leaves it alone as in a single process.
    """
    if world() == 1:
        return
    every = list(parameters)
    used = torch.tensor([p.grad is not None for p in every], device=every[0].device).int()
    dist.all_reduce(used, dist.ReduceOp.MAX)
    chosen = [p for p, u in zip(every, used.tolist()) if u]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for p, g, summed in zip(chosen, gradients, flat.split([g.numel() for g in gradients])):
        p.grad = g.copy_(summed.view(g.shape))


def synchronise(module: nn.Module) -> None:
    """Change a module in place: in training its batch norms span all processes.

    Names and values stay, so a checkpoint of one process is one of many. On CUDA torch has its own;
    elsewhere it refuses.
    """
    if world() == 1:
        return
    if next(module.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for m in module.modules():
        if type(m) is nn.BatchNorm2d:
            m.__class__ = GlobalBatchNorm  # same parameters and buffers, another forward


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm over the pictures of all processes, by differentiable sums (any device).

    Mean first, then the mean square of what is left: one pass with E[x^2] - E[x]^2 would lose the
    digits that the comparison with a single process is about.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x, axes = input.float(), (0, 2, 3)
        pixels = x.new_tensor([x.numel() / x.shape[1]])
        sums = total(torch.cat([x.sum(axes), pixels]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = x - mean[:, None, None]
        variance = total(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages towards this batch, as ``nn.BatchNorm2d`` does."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)
