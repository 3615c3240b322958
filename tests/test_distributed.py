"""Two processes on the CPU train the model that one does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core import device as devices
from tests import recorded_fit, small, tiny
from tests.ports import free_port
from training import distributed, fit, model, phase

ROOT = Path(__file__).resolve().parent.parent


def torchrun(processes: int, gradients: Path, settings: fit.Settings) -> str:
    """Run ``tests.recorded_fit`` in several processes; returns what they print."""
    where = ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    where.append(f"--nproc_per_node={processes}")
    launch = [sys.executable, "-m", "torch.distributed.run", *where, "-m", "tests.recorded_fit"]
    done = subprocess.run(
        [*launch, str(gradients), *tiny.arguments(settings)],
        cwd=ROOT,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> fit.Settings:
    """Shares of 9 and 8, so that a weight by process instead of by picture shows."""
    folder = tmp_path_factory.mktemp("distributed")
    return fit.Settings(
        data=(f"manifest:{tiny.write(folder, each=3)}",),
        out=str(folder / "one"),
        size=64,
        joint_passes=51,
        branch_passes=17,
        body_part_passes=17,
        batch=17,
        validations=1,
        joint_rate=1e-5,
        branch_rate=1e-5,
        body_part_rate=1e-5,
        ema=0.0,
        device="cpu",
        precision="fp32",
    )


def compare_gradients(alone: Path, together: Path) -> None:
    """Each within 2 % in the L2 norm: one ReLU that rounding switches moves it by 0.3 %.

    What has no gradient in one process has none in two. For comparison: batch norm by process
    moves most by half, losses averaged by process move each by more than 3 %.
    """
    for one, two in zip(*(torch.load(p, weights_only=True) for p in (alone, together))):
        assert (one is None) == (two is None)
        if one is not None:
            assert (one - two).norm() <= 0.02 * one.norm()


@pytest.mark.stress
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Gloo over the interface lo")
def test_two_processes_train_the_model_of_one(settings, monkeypatch):
    one = Path(settings.out)
    two = one.with_name("two")
    monkeypatch.setattr(distributed, "sum_gradients", distributed.sum_gradients)
    recorded_fit.keep_first(one.with_name("one.pt"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun does: two would wait for each other
    with small.runs():
        fit.Run(settings).fit()
    torch.set_num_threads(threads)
    printed = torchrun(2, two.with_name("two.pt"), replace(settings, out=str(two)))
    assert printed.count("networks.pt") == 1  # the first process speaks for all

    compare_gradients(one.with_name("one.pt"), two.with_name("two.pt"))
    whole, shared = tiny.events(one), tiny.events(two)
    assert [(e["phase"], e["seen"]) for e in whole] == [(e["phase"], e["seen"]) for e in shared]
    for alone, together in zip(whole, shared):
        assert together["score"] == pytest.approx(alone["score"], abs=1e-3)
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-4)
    networks = [torch.load(f / "networks.pt", weights_only=True)["networks"] for f in (one, two)]
    # Adam's step is its rate, whatever the gradient: where that is nearly zero, rounding has a say
    torch.testing.assert_close(*networks, rtol=1e-4, atol=1e-4)


def test_a_share_for_each_picture_of_the_batch(settings, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 18)
    with pytest.raises(fit.DataInvalid, match="without a picture"):
        fit.Run(settings)


def test_what_is_frozen_stays_so_with_the_batch_norms_of_cuda():
    """``synchronise`` puts others in their place there; of two pictures nothing is normalised."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(model.JointNetwork(["hand"], freeze=1))
    trunk = network.train().trunk
    assert isinstance(trunk.bn1, nn.SyncBatchNorm) and not trunk.bn1.training
    kept, learning = (
        [m for m in layer.modules() if isinstance(m, nn.SyncBatchNorm)]
        for layer in (trunk.layer1, trunk.layer2)
    )
    assert not any(m.training for m in kept) and all(m.training for m in learning)
    learned = {name for name, p in network.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("trunk.conv1", "trunk.bn1", "trunk.layer1")) for n in learned)


def test_what_the_first_process_had_drawn_counts_once_after_a_resume(settings, monkeypatch):
    """The checkpoint holds its share alone, and every process reads it."""
    layer = nn.Linear(2, 1)
    stretch = phase.Phase("hand", layer, lambda *_: None, None, 8, 1e-3, ("hand",))
    device = devices.choose("cpu")

    def state() -> phase.PhaseState:
        return phase.PhaseState(stretch, settings, device)

    written = state()
    written.keep({"hand": torch.zeros(3, 1)}, np.arange(3))
    held = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "first", lambda rank=rank: rank == 0)
        read = state()
        read.load(written.dump())
        held += read.dump()["drawn"]
    assert len(held) == 1


def test_the_global_batch_norm_is_batch_norm():
    torch.manual_seed(0)
    data, results = 3 + 2 * torch.randn(4, 5, 7, 6), []
    for norm in (distributed.GlobalBatchNorm(5), nn.BatchNorm2d(5)):
        torch.manual_seed(1)
        nn.init.uniform_(norm.weight)
        x = data.clone().requires_grad_()
        norm(x).square().mul(torch.arange(6)).sum().backward()
        results.append([x.grad, norm.weight.grad, norm.bias.grad, *norm.buffers(), norm(data)])
        results[-1].append(norm.eval()(data))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
