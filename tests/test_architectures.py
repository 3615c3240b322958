"""Members' networks: the numbers of those they were made after, and Grad-CAM in closed form."""

from __future__ import annotations

import copy
import warnings

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from core import architectures
from core.architectures import lite2, local, vit
from core.compat import import_torchvision
from core.errors import SettingsInvalid
from core.explain import grad_cam
from core.network import fold
from core.transforms import Preprocessing, to_canvas, to_tensor
from tests.ensembles import lively
from tests.simulated import phantom
from training import initial
from training.teacher import Lite2


def canvases(spec: Preprocessing, count: int = 2) -> np.ndarray:
    return np.stack([to_canvas(phantom(90, 70, seed=n), spec) for n in range(count)])


@pytest.mark.parametrize("size", [96, 130])
def test_lite2_gives_the_maps_of_the_package_on_the_releases_own_canvas(size):
    """With an even side and one that is odd half way down, where the padding differs."""
    from training.teacher import Lite2

    spec = Preprocessing(size=size)
    teacher, given = Lite2(size), canvases(Preprocessing(size=size))
    package = teacher.net
    grey = torch.from_numpy(given).float().sub(127).div(128)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        features = package._swish(package._bn0(package._conv_stem(grey)))
        for block in package._blocks:
            features = block(features)
        theirs = package._swish(package._bn1(package._conv_head(features)))
    ours = architectures.make(architectures.LITE2, spec).eval()
    ours.load_state_dict(lite2.adapted(lite2.from_package(package.state_dict()), spec))
    folded = fold(copy.deepcopy(ours))
    for network in (ours, folded):
        with torch.inference_mode():
            maps = network(to_tensor(given, spec))
        assert maps.shape == theirs.shape and theirs.abs().max() > 1
        torch.testing.assert_close(maps, theirs, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    pooled = teacher(given).pooled
    torch.testing.assert_close(maps.mean((2, 3)), pooled, atol=1e-4, rtol=1e-4)


def test_what_radiographs_taught_it_teaches_a_resnet50(tmp_path):
    """A run's network, in the release's normalisation, is the same network as a teacher."""
    spec = Preprocessing(size=96)
    network = architectures.make(architectures.LITE2, spec).eval()
    torch.manual_seed(1)
    state = {
        k: v * (1 + 0.05 * torch.randn_like(v)) if v.ndim == 4 else v
        for k, v in initial.features(architectures.LITE2, spec).items()
    }
    network.load_state_dict(state)
    found = {"arch": architectures.LITE2, "features": state, "heads": {}, "size": 96}
    torch.save(found | {"focus": False, "kinds": []}, tmp_path / "networks.pt")
    canvases = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    with torch.inference_mode():
        maps = network(to_tensor(canvases, spec))
    pooled = Lite2(96, tmp_path)(canvases).pooled
    torch.testing.assert_close(pooled, maps.mean((2, 3)), rtol=1e-3, atol=1e-3)
    assert (pooled - Lite2(96)(canvases).pooled).abs().mean() > 0.01


def test_a_transformer_gives_the_maps_of_timm():
    import_torchvision()
    timm = pytest.importorskip("timm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = timm.create_model(
            "deit_tiny_patch16_224", num_classes=1, global_pool="avg", fc_norm=False
        ).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("head.")}
    ours = vit.VisionTransformer(224, *vit.SIZES[architectures.VIT_TINY]).eval()
    ours.load_state_dict(state)
    x = to_tensor(canvases(Preprocessing()), Preprocessing()).contiguous()
    with torch.inference_mode():
        tokens = theirs.forward_features(x)[:, 1:]
        torch.testing.assert_close(ours(x).flatten(2).transpose(1, 2), tokens, atol=1e-4, rtol=1e-4)
        logits = theirs.head(ours(x).mean((2, 3)))
        torch.testing.assert_close(logits, theirs(x), atol=1e-4, rtol=1e-4)
    from timm.layers import resample_abs_pos_embed

    larger = vit.resized(state, 288)["pos_embed"]
    expected = resample_abs_pos_embed(state["pos_embed"], [18, 18], num_prefix_tokens=1)
    torch.testing.assert_close(larger, expected)


def test_a_side_that_patches_or_cells_do_not_fill_is_refused():
    with pytest.raises(SettingsInvalid, match="multiple of 16"):
        vit.VisionTransformer(100, 192, 3)
    with pytest.raises(SettingsInvalid, match="multiple of 16"):
        local.LocalNetwork(Preprocessing(size=100))


class _Whole(nn.Module):
    """A feature extractor with a linear layer that has evidence everywhere."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk, self.fc = trunk, nn.Linear(width, 1)
        with torch.no_grad():  # far above the library's 1e-7
            self.fc.weight.abs_().mul_(1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.trunk(x).mean((2, 3)))


def test_the_answer_of_a_local_network_is_that_of_its_most_suspicious_cells():
    spec = Preprocessing(size=96)
    network = local.LocalNetwork(spec)
    assert network.out.bias is not None and (network.out.bias < -1).all()  # findings are rare
    cells = torch.full((1, 2, 6, 6), -4.0)
    cells[0, 1, 2, 3] = 5.0
    maps = local.attended(cells)
    torch.testing.assert_close(maps.mean((2, 3))[0], torch.tensor([-4.0, 4.96]), atol=0.05, rtol=0)
    assert maps[0, 1].flatten().argmax() == 2 * 6 + 3 and (maps[0, 0] < 0).all()

    lively(network)
    whole = architectures.make(architectures.LITE2, spec).eval()
    whole.load_state_dict(initial.features(architectures.LITE2, spec))
    network.load_state_dict(initial.fitting(architectures.LITE2_LOCAL, spec, whole.state_dict()))
    x = to_tensor(canvases(spec), spec).contiguous()
    with torch.inference_mode():
        features = torch.nn.functional.relu6(whole.bn1(whole.conv1(x)))
        for block, own in zip(whole.blocks, network.blocks):  # as far as they go together
            features = block(features)
            for theirs, ours in zip(block.parameters(), own.parameters(), strict=True):
                assert torch.equal(theirs, ours)
        assert features.shape[2:] == network(x).shape[2:] == (6, 6)
        flat = network.cells(x).flatten(2)
        pooled = (flat.softmax(2) * flat).sum(2)
        torch.testing.assert_close(network(x).mean((2, 3)), pooled)
        torch.testing.assert_close(
            fold(copy.deepcopy(network))(x), network(x), atol=1e-3, rtol=1e-3
        )


WIDTHS = {
    architectures.LITE2: lite2.CHANNELS,
    architectures.LITE2_LOCAL: local.CHANNELS,
    architectures.VIT_TINY: 192,
}


@pytest.mark.parametrize("name", [*WIDTHS])
def test_the_closed_form_is_grad_cam_of_every_architecture(name):
    """Of a transformer at its final norm, whose tokens the library gets as maps."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    spec = Preprocessing(size=96)
    trunk = lively(architectures.make(name, spec))
    transformer = isinstance(trunk, vit.VisionTransformer)
    model = _Whole(trunk, WIDTHS[name]).eval()

    def as_maps(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (6, 6))

    # The last ReLU6 is a function: the library's layer is one that returns what comes after it.
    layer = trunk.norm if transformer else trunk
    for canvas in canvases(spec):
        x = to_tensor(canvas[None], spec).contiguous()
        with torch.no_grad():
            maps = trunk(x)[0].numpy()
        ours = grad_cam(maps, model.fc.weight[0].detach().numpy(), 1.0).values
        reshape = as_maps if transformer else None
        with GradCAM(model=model, target_layers=[layer], reshape_transform=reshape) as cam:
            theirs = cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])[0]
        resized = cv2.resize(ours, theirs.shape[::-1])  # the library stretches after resizing
        stretched = (resized - resized.min()) / (resized.max() - resized.min())
        assert np.ptp(ours) > 0
        np.testing.assert_allclose(stretched, theirs, atol=1e-4)


def test_folding_a_transformer_changes_nothing():
    network = vit.VisionTransformer(96, 48, 3, depth=2).eval()
    before, x = copy.deepcopy(network), torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(fold(network)(x), before(x))
