"""What a run of ``fit`` is made from; each setting says its meaning in ``--help``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from core import architectures
from core.architectures import STRIDE
from core.errors import SettingsInvalid
from core.types import BodyPart
from training.config import DATA, OUT, option
from training.phases import AUTO, PRECISIONS, passes


@dataclass(frozen=True)
class Settings:
    """What a run is made from. Passes are pictures seen, not epochs, as the draws are balanced.

    An architecture that is no ResNet50 is trained from "scratch", "imagenet", a safetensors file,
    or a release that has such a network (``training.fit_member``); see ``initial.load`` for the
    ResNet50. A release as ``init`` gives the trunk, and without a joint phase, which would change
    what the branches see, its own branches too. A part as ``only`` that the release has no branch
    for is added to it: its branch starts from stage 1's, which has seen radiographs of all parts.
    A local network learns from labelled pictures alone, half of them simulated, where there is any;
    with ``window``, which may be the whole picture, it learns what its cells say and nothing else.
    With ``steady``, a quarter of the pictures is seen twice. Raises SettingsInvalid for what no run
    can be made from.
    """

    data: tuple[str, ...] = field(metadata=DATA)
    out: str = field(metadata=OUT)
    arch: str = option(
        architectures.RESNET50,
        "what is trained: resnet50, a cascade; any other network is one for all parts, with a "
        f"joint phase alone ({', '.join(architectures.NAMES[1:])})",
    )
    init: str = option(
        "scratch",
        "the weights to start from: scratch, imagenet, a file of weights, the checkpoint.pt of "
        "distill, or a release by id or alias",
    )
    only: str = option(
        "",
        "the one branch of the release in --init that is trained, body_part or a part; everything "
        "else stays as released",
    )
    duplicates: str = option("drop", "what becomes of pictures with a copy in another split")
    freeze: int = option(0, "number of first stages of the trunk that are not trained, 0 to 2")
    strangers: int = option(
        0, "number of out-of-distribution pictures (synthetic) for stage 1 to refuse"
    )
    pointing: float = option(
        0.0, "weight of the loss that keeps the heatmap inside the annotated boxes"
    )
    dense: float = option(
        0.0,
        "weight of the loss that teaches each cell of a local network whether a finding lies in it",
    )
    window: int = option(
        0,
        "side in pixels of the square that a local network sees of each picture, around a finding "
        "where there is one, to learn from its cells alone; 0 for whole pictures and their labels",
    )
    steady: float = option(
        0.0, "weight of the consistency loss between two augmented views of a picture"
    )
    size: int = option(224, "side of the square that the network sees, in pixels")
    focus: int = option(0, "1 to crop each picture to the limb first")
    joint_passes: int = option(40_000, "pictures that the joint phase sees, 0 for no such phase")
    branch_passes: int = option(8_000, "pictures that each part's branch sees, 0 for none")
    body_part_passes: int = option(12_000, "pictures that the branch of stage 1 sees, 0 for none")
    batch: int = option(32, "batch size, of all processes together")
    joint_rate: float = option(3e-4, "peak learning rate of the joint phase")
    branch_rate: float = option(1e-4, "peak learning rate of each part's branch")
    body_part_rate: float = option(2e-4, "peak learning rate of the branch of stage 1")
    weight_decay: float = option(0.05, "weight decay of AdamW")
    smoothing: float = option(0.05, "label smoothing, 0 for none")
    ema: float = option(0.99, "decay per step of the averaged weights")
    warmup: float = option(0.05, "warm-up, as a share of a phase")
    validations: int = option(8, "validations per phase")
    patience: int = option(
        0, "early stopping: validations of a phase without a better score, 0 for never"
    )
    seed: int = option(0, "random seed")
    device: str = option("auto", "device to train on")
    precision: str = option(AUTO, f"number format of a step: {', '.join(PRECISIONS)}")
    minutes_between_checkpoints: float = option(3.0, "minutes between two checkpoints")

    def __post_init__(self) -> None:
        if self.arch not in architectures.NAMES:
            raise SettingsInvalid(f"There is no architecture {self.arch!r}.")
        if self.arch != architectures.RESNET50 and self.only:
            raise SettingsInvalid("--only is for a ResNet50 cascade.")
        self._refuse_cells()
        if self.precision not in PRECISIONS:
            names = ", ".join(PRECISIONS)
            raise SettingsInvalid(f"The precision must be one of {names}, not {self.precision!r}.")
        if self.only:
            try:
                BodyPart(self.only)
            except ValueError as error:
                raise SettingsInvalid(str(error)) from error
        if self.only and self.init in ("scratch", "imagenet"):
            raise SettingsInvalid("A branch is fine-tuned from a release: name one as --init.")
        asked = passes(asdict(self)).values()
        if min(asked) < 0 or not any(asked):
            raise SettingsInvalid("At least one phase needs pictures, and none less than 0.")

    def _refuse_cells(self) -> None:
        if self.arch != architectures.LITE2_LOCAL and (self.dense or self.window):
            raise SettingsInvalid(
                f"--dense and --window are for a network with cells, {architectures.LITE2_LOCAL}."
            )
        if self.window and (self.pointing or self.steady or not self.dense):
            raise SettingsInvalid("With --window there is --dense, no --pointing and no --steady.")
        if self.window % STRIDE or not 0 <= self.window <= self.size:
            raise SettingsInvalid(
                f"--window is a multiple of {STRIDE} and at most the size, {self.size}."
            )
