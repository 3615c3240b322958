"""The trunk and a branch are exactly torchvision's ResNet50."""

from __future__ import annotations

import copy

import pytest
import torch

from core.compat import import_torchvision
from core.network import Bottleneck, Branch, Trunk, fold, split_state_dict

import_torchvision()
from torchvision.models import resnet50  # noqa: E402


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(1)
    model = resnet50(weights=None, num_classes=5).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def ours(theirs: torch.nn.Module) -> tuple[Trunk, Branch]:
    trunk, branch = Trunk(64).eval(), Branch(5, 64).eval()
    first, second = split_state_dict(theirs.state_dict())
    trunk.load_state_dict(first)
    branch.load_state_dict(second)
    return trunk, branch


def test_state_dict_names_are_torchvisions(theirs, ours):
    trunk, branch = ours
    joined = trunk.state_dict() | branch.state_dict()
    assert joined.keys() == theirs.state_dict().keys()
    theirs.load_state_dict(joined)


@torch.no_grad()
def test_output_is_torchvisions(theirs, ours):
    trunk, branch = ours
    x = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(branch(trunk(x)).logits, theirs(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_activations_pool_to_the_logits(ours):
    trunk, branch = ours
    output = branch(trunk(torch.randn(1, 3, 64, 64)))
    assert output.activations.shape == (1, 2048, 2, 2)
    pooled = output.activations.mean((2, 3))
    torch.testing.assert_close(branch.fc(pooled), output.logits)


@torch.no_grad()
def test_fold_keeps_the_output(ours):
    trunk = copy.deepcopy(ours[0]).double()  # in float64 nothing but a mistake is above 1e-9
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = trunk(x)
    folded = fold(trunk)
    torch.testing.assert_close(folded(x), expected, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())


def test_new_block_starts_as_its_shortcut():
    block = Trunk(64).layer1[1].eval()
    assert isinstance(block, Bottleneck)
    x = torch.rand(1, 256, 4, 4)
    torch.testing.assert_close(block(x), x)
