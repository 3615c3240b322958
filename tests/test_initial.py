"""What ``fit --init`` takes."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch

from core.compat import import_torchvision
from core.network import Branch, Trunk
from core.registry import Registry
from core.transforms import Preprocessing
from training import initial
from training.data import DataInvalid, confined
from training.model import JointNetwork

LOADER = "torchvision.models._api.load_state_dict_from_url"


@pytest.fixture(scope="module")
def joint() -> JointNetwork:
    return JointNetwork(("elbow", "hand", "shoulder"))


@pytest.fixture(autouse=True)
def torchvision() -> None:
    import_torchvision()


def test_imagenet_is_torchvisions(joint, monkeypatch):
    from torchvision.models import ResNet50_Weights

    asked = []
    state = Trunk().state_dict() | Branch(1000).state_dict()

    def download(url, **options):
        asked.append((url, options["check_hash"]))
        return state

    monkeypatch.setattr(LOADER, download)
    initial.load(joint, "imagenet")
    assert asked == [(ResNet50_Weights.IMAGENET1K_V1.url, True)]
    assert asked[0][0].endswith("/resnet50-0676ba61.pth")
    assert torch.equal(joint.trunk.conv1.weight, state["conv1.weight"])
    assert torch.equal(joint.layer4[2].conv3.weight, state["layer4.2.conv3.weight"])


def test_imagenet_without_a_network_is_one_sentence(joint, monkeypatch):
    def download(url, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(LOADER, download)
    with pytest.raises(DataInvalid, match=r"cannot be downloaded from https.*\.pth \(.*known"):
        initial.load(joint, "imagenet")


@pytest.mark.parametrize("name", ["random", "champion"])
def test_a_release_gives_its_trunk_and_stage_one(joint, weights, monkeypatch, name):
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    initial.load(joint, name)
    registry = Registry.open(weights)
    release = registry.find("random")
    stage, tensors = release.stages["body_part"], registry.load(release)
    for key, value in tensors[stage.trunk].items():
        assert torch.equal(joint.trunk.state_dict()[key], value)
    layer4 = {k: v for k, v in tensors[stage.branch].items() if k.startswith("layer4.")}
    assert len(layer4) > 40
    for key, value in layer4.items():
        assert torch.equal(joint.layer4.state_dict()[key.removeprefix("layer4.")], value)


def test_neither_file_nor_release(joint, weights, monkeypatch):
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    with pytest.raises(DataInvalid, match=r"no such file, and no release.*known are: champion"):
        initial.load(joint, "runs/nothing/resnet50.pt")


def test_a_branch_is_fine_tuned_from_a_release_alone(tmp_path):
    """From a file it was trained to its end, and `calibrate` said that the release had gone."""
    torch.save({}, tmp_path / "own.pt")
    spec = Preprocessing(size=32)
    assert initial.fixed(str(tmp_path / "own.pt"), spec) == (spec, ())
    with pytest.raises(DataInvalid, match="is none: name one as --init"):
        initial.fixed(str(tmp_path / "own.pt"), spec, "elbow")


def test_weights_to_start_from_lie_where_data_may_be_read(tmp_path, weights, monkeypatch):
    monkeypatch.setenv("BONE_WEIGHTS", str(weights))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BONE_HOME", str(tmp_path / "home"))
    inside, outside = tmp_path / "inside" / "a.pt", tmp_path / "b.pt"
    before = tmp_path / "home" / "runs" / "before"  # a run of the page
    inside.parent.mkdir(), before.mkdir(parents=True)
    inside.touch(), outside.touch()
    with confined([inside.parent]):
        for init in ("scratch", "imagenet", "champion", "random", str(inside), str(before)):
            initial.refuse_elsewhere(init)
        for init in (outside, tmp_path / "nothing.pt", inside.parent / ".." / "b.pt", "b.pt"):
            with pytest.raises(DataInvalid, match=r"may be read|the whole path"):
                initial.refuse_elsewhere(str(init))
    initial.refuse_elsewhere(str(outside))


def test_a_distilled_network_gives_each_kind_its_own_row(tmp_path):
    parts = ["chest", "elbow", "foot", "hand", "shoulder"]
    student = {f"trunk.{k}": v for k, v in Trunk().state_dict().items()}
    student |= {f"branch.{k}": v for k, v in Branch(len(parts)).state_dict().items()}
    rows = torch.arange(5.0)[:, None].expand(5, Branch(1).fc.in_features).contiguous()
    student |= {"branch.fc.weight": rows, "branch.fc.bias": torch.arange(5.0)}
    student |= {"positive.weight": 10 + rows, "positive.bias": 10 + torch.arange(5.0)}
    torch.save({"student": student, "parts": parts}, tmp_path / "checkpoint.pt")
    kinds = ("elbow", "hand", "shoulder", "chest", "stranger", "other")
    joint = JointNetwork(("elbow", "hand", "shoulder"), kinds=kinds)
    initial.load(joint, str(tmp_path / "checkpoint.pt"))
    # what it has no name for starts as the mean of chest and foot
    assert joint.heads["body_part"].bias.tolist() == [1, 3, 4, 0, 1, 1]
    assert joint.heads["body_part"].weight[:, 0].tolist() == [1, 3, 4, 0, 1, 1]
    assert joint.heads["hand"].bias.tolist() == [13]


def test_scratch_changes_nothing(joint):
    before = joint.trunk.conv1.weight.clone()
    initial.load(joint, "scratch")
    assert torch.equal(joint.trunk.conv1.weight, before)
