"""The mean of several runs of one network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.architectures import LITE2
from training import networks, provenance
from training.__main__ import main


def run(folder: Path, value: float, **changed: object) -> Path:
    """A run of ``fit --arch`` as it ends, with ``value`` for every weight."""
    folder.mkdir()
    made: dict[str, object] = {
        "arch": LITE2,
        "size": 96,
        "focus": True,
        "kinds": ["hand", "other"],
        "features": {
            "conv.weight": torch.full((2, 3), value),
            "bn.num_batches_tracked": torch.tensor(int(value)),
        },
        "heads": {"hand.weight": torch.full((1, 2), value)},
    }
    init = changed.pop("init", "imagenet")
    (folder / "config.toml").write_text(f'arch = "{LITE2}"\ninit = "{init}"\nseed = {value}\n')
    torch.save(made | changed, folder / "networks.pt")
    return folder


def average(tmp_path: Path, *runs: Path) -> int:
    return main(["average", *map(str, runs), "--out", str(tmp_path / "mean")])


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    assert average(tmp_path, run(tmp_path / "a", 1.0), run(tmp_path / "b", 4.0)) == 0
    found = networks.trained(tmp_path / "mean", LITE2)
    assert torch.equal(found["features"]["conv.weight"], torch.full((2, 3), 2.5))
    assert torch.equal(found["heads"]["hand.weight"], torch.full((1, 2), 2.5))
    assert found["features"]["bn.num_batches_tracked"] == 1
    assert (found["size"], found["focus"], found["kinds"]) == (96, True, ["hand", "other"])
    told = provenance.commands(tmp_path / "mean")
    assert [c.split()[3] for c in told] == ["fit", "fit", "average"]
    assert "--seed 1.0" in told[0] and "--seed 4.0" in told[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"init": "scratch"}, "has init scratch"),
        ({"kinds": ["hand"]}, "has kinds"),
        ({"focus": False}, "has focus False"),
        ({"heads": {"elbow.weight": torch.ones(1, 2)}}, "has parts"),
        ({"arch": "vit-tiny-patch16"}, "trained vit-tiny-patch16"),
    ],
)
def test_what_has_no_mean_is_refused(
    changed: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(tmp_path / "b", 2.0, **changed)
    assert average(tmp_path, run(tmp_path / "a", 1.0), other) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_a_run_is_neither_alone_nor_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = run(tmp_path / "a", 1.0), run(tmp_path / "b", 2.0)
    assert average(tmp_path, one) == 1 and "at least two" in capsys.readouterr().err
    before = (one / "networks.pt").read_bytes()
    assert main(["average", str(one), str(other), "--out", str(one)]) == 1
    assert "holds a run" in capsys.readouterr().err
    assert (one / "networks.pt").read_bytes() == before
