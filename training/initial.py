"""The weights that a run starts from."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from core import architectures, files
from core.compat import import_torchvision
from core.errors import WeightsInvalid
from core.manifest import Release
from core.registry import Registry
from core.settings import Settings
from core.transforms import Preprocessing
from training.config import read_record
from training.data import DataInvalid, refuse_outside
from training.model import JointNetwork
from training.networks import NETWORKS, Layers
from training.phases import BODY_PART

log = logging.getLogger(__name__)

BASE = "base.json"
WORDS = ("scratch", "imagenet")


def load(joint: JointNetwork, init: str, only: str = "") -> dict[str, dict[str, Tensor]]:
    """Give ``joint`` the weights that ``init`` names; raises DataInvalid where there are none.

    init: "scratch", "imagenet", a file (a torchvision ResNet50 state dict, or ``checkpoint.pt`` of
    ``distill``, which has heads as well), or a release by id or alias. only: the branch whose trunk
    is taken, where a release has several. Returns the branches of a release by their stage, each as
    the state dict of a ``core.network.Branch``; empty for anything else.
    """
    if init == "scratch":
        return {}
    if (student_state := student(init)) is not None:
        joint.load_student(student_state, torch.load(init, weights_only=True)["parts"])
        return {}
    if not is_release(init):
        joint.load_backbone(backbone(init))
        return {}
    registry, release = _find(init)
    tensors, stages = registry.load(release), release.stages
    first = stages.get(only, stages[BODY_PART])
    joint.load_backbone(tensors[first.trunk] | tensors[stages[BODY_PART].branch])
    branches = {name: tensors[stage.branch] for name, stage in stages.items()}
    joint.load_heads(branches, stages[BODY_PART].classes)
    return branches


def is_release(init: str) -> bool:
    """Whether ``init`` is neither a word of its own nor a file nor a run."""
    return init not in WORDS and not Path(init).is_file() and run(init) is None


def refuse_elsewhere(init: str) -> None:
    """Raise DataInvalid for a file or run that may not be read while ``data.confined`` lasts; what
    the page's own runs made may be."""
    if init not in WORDS and ("/" in init or not is_release(init)):
        refuse_outside(init, init, Settings.from_environment().home / "runs")


def run(init: str) -> Path | None:
    """The folder of a run of ``fit --arch``, or of ``average``, that is named; None for another."""
    return Path(init) if (Path(init) / NETWORKS).is_file() else None


def fixed(
    init: str, wanted: Preprocessing, only: str = ""
) -> tuple[Preprocessing, tuple[str, ...]]:
    """What stays as a release has it when its trunk does: how it reads a picture, and the classes
    of stage 1; of anything else what is wanted, and no classes.

    Raises DataInvalid where the release reads pictures of another size or does not know the part,
    and for the branch of a part from what is no release.
    """
    if not is_release(init):
        if only:
            raise DataInvalid(
                f"A branch is fine-tuned from a release, and {init} is none: name one as --init."
            )
        return wanted, ()
    release = _find(init)[1]
    classes = release.stages[BODY_PART].classes
    if only and only not in (*release.stages, *classes):
        raise DataInvalid(
            f"Stage 1 of release {release.id} does not know the {only} by name, so it would never "
            f"ask a model of it. Train the whole cascade first, with radiographs of it in the data."
        )
    spec = release.preprocessing
    if spec.size != wanted.size:
        raise DataInvalid(
            f"Release {release.id} reads pictures of {spec.size} pixels, not {wanted.size}: "
            "without a joint phase its trunk stays as it is, and so does the size."
        )
    return spec, classes


def warn_of_focus(init: str, wanted: Preprocessing) -> None:
    """Say in the log where a run shows what it goes on with, a release or a run, other pictures."""
    folder = run(init)
    if folder is not None:
        focus = bool(torch.load(folder / NETWORKS, weights_only=True).get("focus", False))
    elif is_release(init):
        focus = _find(init)[1].preprocessing.focus
    else:
        return
    if focus != wanted.focus:
        said = "not cut to the limb" if wanted.focus else "cut to the limb"
        log.warning("The network of %s was trained on pictures %s; see --focus.", init, said)


def pinned(init: str, run: Path, first: bool = True) -> str:
    """``init``, or the id of the release that a run began with, kept in its ``base.json``.

    An alias may name another release when the run goes on. first: whether this process writes.
    Raises DataInvalid where that release is not there any more.
    """
    if not is_release(init):
        return init
    if (known := base(run)) is None:
        release = _find(init)[1]
        if first:
            files.write_json(run / BASE, {"id": release.id, "sha256": release.sha256})
        return release.id
    if _find(known["id"])[1].sha256 != known["sha256"]:
        raise DataInvalid(f"Release {known['id']} is not the one that this run began with.")
    return known["id"]


def base(run: Path) -> dict[str, str] | None:
    """Id and SHA-256 of the release that a run began with; None where it was none.

    Raises DataInvalid where the note of it is damaged.
    """
    path = run / BASE
    if not path.exists():
        return None
    known = read_record(path)
    if not {"id", "sha256"} <= {*known}:
        raise DataInvalid(f"{path} is damaged.")
    return known


def student(init: str) -> dict[str, Tensor] | None:
    """The distilled network with its heads where ``init`` is ``distill``'s checkpoint."""
    if not Path(init).is_file():
        return None
    state = torch.load(init, weights_only=True)
    return dict(state["student"]) if "student" in state else None


def backbone(init: str) -> dict[str, Tensor]:
    """Trunk and layer4 as a torchvision ResNet50 state dict: "imagenet", a file or a release."""
    if init == "imagenet":
        return imagenet()
    if Path(init).is_file():
        return dict(torch.load(init, weights_only=True))
    return released(init)


def imagenet() -> dict[str, Tensor]:
    """torchvision's first ImageNet ResNet50, downloaded once and checked against its hash.

    The first, not the second recipe: label smoothing and the like gain on ImageNet itself, but
    features as they are transfer worse (Kornblith et al. 2021, arXiv:2010.16402).
    """
    import_torchvision()
    from torchvision.models import ResNet50_Weights

    weights = ResNet50_Weights.IMAGENET1K_V1
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise DataInvalid(
            f"The ImageNet weights cannot be downloaded from {weights.url} ({error}). Fetch the "
            f"file elsewhere and give it as --init, or start from `python -m training distill`."
        ) from error


def released(name: str) -> dict[str, Tensor]:
    """Trunk and layer4 of a release's first stage, as a torchvision ResNet50 state dict.

    Stage 1 has learned from every picture; its layer4 is what the parts' own started from.
    """
    registry, release = _find(name)
    tensors, stage = registry.load(release), release.stages[BODY_PART]
    return tensors[stage.trunk] | tensors[stage.branch]


def features(arch: str, spec: Preprocessing, init: str = "") -> dict[str, Tensor]:
    """The state dict of a feature extractor for canvases normalised as ``spec``."""
    if init:
        whole = load_safetensors(Path(init).read_bytes())
        state = {k: v for k, v in whole.items() if not k.startswith(("head.", "fc_norm."))}
        return fitting(arch, spec, state)
    if arch not in (architectures.LITE2, architectures.LITE2_LOCAL):
        raise DataInvalid(f"There are no weights of {arch} here: name a file of them as --init.")
    from core.architectures import lite2
    from training.teacher import Lite2

    state = lite2.adapted(lite2.from_package(Lite2(spec.size).net.state_dict()), spec)
    return fitting(arch, spec, state)


def fitting(arch: str, spec: Preprocessing, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a feature extractor that saw canvases of another size, for this one; of a
    local network that begins with a whole EfficientNet-Lite2, with what is its own still to be
    trained."""
    if arch in (architectures.VIT_TINY, architectures.VIT_SMALL):
        from core.architectures import vit

        return vit.resized(state, spec.size)
    if arch == architectures.LITE2_LOCAL and "out.weight" not in state:
        own = architectures.make(arch, spec).state_dict()
        return own | {k: v for k, v in state.items() if k in own}
    return state


def member(name: str, arch: str) -> tuple[dict[str, Tensor], Layers]:
    """A release's network of that architecture: its features, and by part its linear layer with the
    names of its outputs.

    A local network may begin with a release's EfficientNet-Lite2: then there are no layers. Raises
    DataInvalid where the release has no such network.
    """
    registry, found = _find(name)
    release = found.in_mode(found.largest_mode)
    tensors = registry.load(release)
    features: dict[str, Tensor] = {}
    heads = {}
    for part, stage in release.stages.items():
        for one in stage.ensemble.members if stage.ensemble else ():
            if release.architectures.get(one.trunk) == arch:
                features = tensors[one.trunk]
                layer = {k.removeprefix("fc."): v.float() for k, v in tensors[one.branch].items()}
                heads[part] = layer, one.classes or stage.classes
    if not heads and arch == architectures.LITE2_LOCAL:
        return member(name, architectures.LITE2)[0], {}
    if not heads:
        raise DataInvalid(f"Release {release.id} has no {arch}.")
    return {k: v.float() for k, v in features.items()}, heads


def find(name: str) -> Release:
    """A release of this installation; raises DataInvalid where there is none of that name."""
    return _find(name)[1]


def installed() -> Registry:
    """The releases that a run may begin with: those of BONE_WEIGHTS. Raises WeightsInvalid."""
    return Registry.open(Settings.from_environment().weights)


def _find(name: str) -> tuple[Registry, Release]:
    try:
        registry = installed()
        return registry, registry.find(name)
    except WeightsInvalid as error:
        raise DataInvalid(f"--init {name}: no such file, and no release. {error}") from error
