"""Train the cascade: one joint phase on every labelled picture, then each branch by itself.

Everything a run makes lies in its folder: ``config.toml``, ``events.jsonl``, ``status.json``,
``checkpoint.pt`` (all it takes to go on) and at the end ``networks.pt``. A run that was cut off
goes on where its last checkpoint was, with the same numbers as if it had not been: every step
seeds its own draws from the run's seed and the number of pictures seen. Under torchrun several
processes do this together (``training.distributed``).
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from core import architectures, files
from core import device as devices
from core.network import Branch, channels_last
from core.transforms import Preprocessing
from training import config, curves, distributed, initial, learned, precision, sampling, strangers
from training.augment import vary
from training.data import PARTS, SIMULATED, DataInvalid, kinds_of, read_all, split_hash
from training.duplicates import ROWS, settle_once
from training.fit_settings import Settings
from training.model import Joint, JointNetwork
from training.phase import Phase, PhaseState, Sampler, rate
from training.phases import BODY_PART, JOINT, needed, passes
from training.pictures import (
    Answer,
    Logits,
    Pictures,
    dense_loss,
    loss,
    pointing_loss,
    steady_loss,
)
from training.status import Status, Stopped
from training.validate import Validation

__all__ = ["Run", "Settings", "evidence"]

log = logging.getLogger(__name__)

_OTHERWISE = 0x2545F491  # makes of a view's seed that of another view of the same picture


class Run:
    """A run folder and the state that a checkpoint holds."""

    def __init__(self, settings: Settings, stop: Callable[[], bool] = lambda: False) -> None:
        """stop: asked after each step whether to save and raise Stopped."""
        if settings.batch < distributed.world():
            raise DataInvalid(f"A batch of {settings.batch} leaves a process without a picture.")
        self.settings = settings
        self.folder, self.stop = Path(settings.out), stop
        config.refuse_another(self.folder, settings)
        self.status = Status(self.folder, distributed.first())
        self.device = devices.choose(settings.device)
        self.passes = passes(asdict(settings))
        records = [self.folder / name for name in (config.NAME, ROWS, initial.BASE)]
        missing = [path for path in records if not path.exists()]
        try:
            self._prepare(settings)
        except DataInvalid:
            if distributed.first():
                for path in missing:  # what is no run holds no folder
                    path.unlink(missing_ok=True)
            raise

    def _prepare(self, settings: Settings) -> None:
        """What it begins with and the pictures; raises DataInvalid where no run can be made."""
        if not (self.folder / config.NAME).exists():  # one that was begun before goes on
            initial.refuse_elsewhere(settings.init)
        self.init = initial.pinned(settings.init, self.folder, distributed.first())
        self.spec = Preprocessing(size=settings.size, focus=bool(settings.focus))
        kinds: tuple[str, ...] = ()
        if self.passes.get(JOINT):
            initial.warn_of_focus(self.init, self.spec)
        else:
            self.spec, kinds = initial.fixed(self.init, self.spec, settings.only)
        rows = self._rows()
        seen, held_out = rows[rows.split == "train"], rows[rows.split == "val"]
        if settings.arch == architectures.RESNET50:
            # As `calibrate` would when all is trained; of others a start, say, chooses nothing.
            learned.refuse_taught(self.folder, held_out[held_out.source != SIMULATED])
        self.kinds = kinds or kinds_of([*seen.part, *[strangers.KIND] * settings.strangers])
        drawn = settings.strangers, settings.seed, self.kinds
        self.train = Pictures.load(seen, self.spec, *drawn)
        self.validation = Validation.load(settings, held_out, self.spec, self.kinds, self.device)
        labelled = self.train.rows[self.train.rows.positive.notna()]
        counts = labelled.groupby("part").positive.nunique()
        self.parts = tuple(sorted(counts[counts == 2].index))
        self._refuse_gaps()

    def _refuse_gaps(self) -> None:
        """Raise DataInvalid where a part has no positives or no negatives to train or choose on."""
        for split, pictures in (("train", self.train), ("val", self.validation.real)):
            labelled = pictures.rows[pictures.rows.positive.notna()]
            kinds = labelled.groupby("part").positive.nunique()
            missing = [p for p in self._needed() if kinds.get(p, 0) < 2]
            if missing:
                names = ", ".join(missing)
                drawn = (pictures is not self.train) and len(self.validation.simulated.rows)
                also = " Simulated radiographs do not count there." if drawn else ""
                raise DataInvalid(
                    f"The split {split} lacks positives or negatives of: {names}.{also}"
                )
            if pictures.rows.empty:
                raise DataInvalid(f"The split {split} has no radiograph to learn from.")
            if self.settings.only == BODY_PART and not pictures.rows.part.isin(PARTS).any():
                raise DataInvalid(f"The split {split} has no radiograph of: {', '.join(PARTS)}.")

    def _needed(self) -> tuple[str, ...]:
        return needed(self.settings.only)

    def _rows(self) -> pd.DataFrame:
        """All rows but those that are in two splits; settled once, as it reads every picture.
        Of a run that trains the branch of one part, that part's."""
        rows, listed = read_all(self.settings.data), self.folder / ROWS
        if distributed.first():
            files.remove_leftovers(self.folder)
            config.write(self.folder, asdict(self.settings), split_hash(rows))
        if self.settings.only not in ("", BODY_PART):
            rows = rows[(rows.part == self.settings.only) & rows.positive.notna()]
        if distributed.first():
            settle_once(rows, listed, self.settings.duplicates)
        distributed.wait()
        return settle_once(rows, listed)

    def fit(self) -> Path:
        """All phases, from the last checkpoint; returns the path of ``networks.pt``."""
        torch.manual_seed(self.settings.seed)
        joint = JointNetwork(self.parts, self.settings.freeze, self.kinds)
        released = initial.load(joint, self.init, self.settings.only)
        distributed.synchronise(channels_last(joint.to(self.device.processor)))
        saved = self._checkpoint()
        distributed.wait()  # so that nobody reads what the first writes next
        done: dict[str, dict[str, Tensor]] = saved.get("done", {}) if saved else {}
        if JOINT in self.passes:
            best = self._phase(self._joint_phase(joint), saved, done)
            joint.load_state_dict(best)
        joint.requires_grad_(False).eval()
        names = [n for n in self.passes if n != JOINT]
        for name in names:
            start = None if self.passes.get(JOINT) else released.get(name)
            phase = self._branch_phase(joint, name, start)
            self._phase(phase, saved, done)
        trunk = joint.trunk.state_dict()
        if distributed.first():
            self._finish({"trunk": trunk} | {n: done[n] for n in names})
        return self.folder / "networks.pt"

    def _finish(self, networks: dict[str, dict[str, Tensor]]) -> None:
        complete = {
            "networks": networks,
            "size": self.settings.size,
            "focus": self.spec.focus,
            "kinds": list(self.kinds),
        }
        files.save_checkpoint(self.folder / "networks.pt", complete)
        curves.write(self.folder)
        curves.to_tensorboard(self.folder)
        self.status.write("finished", 1.0)

    def _joint_phase(self, joint: Joint) -> Phase:
        s = self.settings
        local = s.arch == architectures.LITE2_LOCAL
        sampler = sampling.JointSampler(self.train.rows, simulated=local)
        heads = self.parts if local else (BODY_PART, *self.parts)

        def forward(network: nn.Module, x: Tensor) -> Answer:
            assert isinstance(network, Joint)
            logits, maps, cells = network.answer(x)
            shown = {p: evidence(maps, network.weight(p)) for p in self.parts}
            return Answer(logits, shown, cells)

        return Phase(JOINT, joint, forward, sampler, s.joint_passes, s.joint_rate, heads)

    def _branch_phase(
        self, joint: JointNetwork, name: str, start: dict[str, Tensor] | None = None
    ) -> Phase:
        """start: the weights it begins with, where not those of the joint phase."""
        rows, s = self.train.rows, self.settings
        sampler: Sampler = (
            sampling.BodyPartSampler(rows)
            if name == BODY_PART
            else sampling.FractureSampler(rows, name)
        )

        def forward(branch: nn.Module, x: Tensor) -> Answer:
            with torch.no_grad():
                features = joint.trunk(x)
            assert isinstance(branch, Branch)
            out = branch(features)
            shown = {} if name == BODY_PART else {name: evidence(out.activations, branch.fc.weight)}
            return Answer({name: out.logits}, shown, {})

        branch: Branch = joint.branch(name).requires_grad_(True)
        if start is not None:
            branch.load_state_dict(start)
        # Stage 1 has ten times the pictures of a fracture branch, and bears more training.
        learning = s.body_part_rate if name == BODY_PART else s.branch_rate
        return Phase(name, branch, forward, sampler, self.passes[name], learning, (name,))

    def _phase(
        self, phase: Phase, saved: dict[str, Any] | None, done: dict[str, dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Train one phase and return its best averaged weights; adds them to ``done``."""
        if phase.name in done:
            return done[phase.name]
        state = PhaseState(phase, self.settings, self.device)
        if saved and saved["phase"] == phase.name:
            state.load(saved)
        if state.best is None:
            self._validate(phase, state)
        every = max(1, phase.passes // self.settings.validations)
        bar = tqdm(
            total=phase.passes,
            initial=state.seen,
            desc=phase.name,
            unit="img",
            mininterval=5,
            disable=not distributed.first(),
        )
        last = time.monotonic()
        while state.seen < phase.passes and not state.stale():
            before = state.seen
            value = self._step(phase, state)
            state.add(value)
            bar.update(state.seen - before)
            learning = rate(before, phase, self.settings)
            self.status.step(phase.name, state.seen, phase.passes, value, learning)
            if state.seen // every > before // every or state.seen >= phase.passes:
                self._validate(phase, state)
            if time.monotonic() - last > 60 * self.settings.minutes_between_checkpoints:
                self._save(phase, state, done)
                last = time.monotonic()
            if self.stop():
                self._pause(phase, state, done)
        bar.close()
        assert state.best is not None
        done[phase.name] = state.best
        self._save(phase, state, done)
        return state.best

    def _pause(
        self, phase: Phase, state: PhaseState, done: dict[str, dict[str, Tensor]]
    ) -> NoReturn:
        self._save(phase, state, done)
        self.status.write("paused", phase.progress(state.seen), phase.name, seen=state.seen)
        raise Stopped(f"Paused after {state.seen} pictures of {phase.name}.")

    def _step(self, phase: Phase, state: PhaseState) -> float:
        s, seen = self.settings, state.seen
        rng = np.random.default_rng((s.seed, seen, *phase.name.encode()))
        whole = phase.sampler.draw(s.batch, rng)
        index = distributed.share(whole)
        seeds = distributed.share(rng.integers(2**31, size=s.batch))
        state.set_rate(rate(seen, phase, s))
        if s.window:
            mine = s.dense * self._loss_of_windows(phase, index, seeds, whole)
            return self._descend(phase, state, mine)
        answer = self._answer(phase, index, seeds)
        mine = loss(answer.logits, self.train, index, whole, s.smoothing)
        if s.pointing:
            away = pointing_loss(answer.evidence, self.train, index, seeds, whole)
            mine = mine + s.pointing * away
        if s.steady:
            mine = mine + s.steady * self._unsteady(phase, answer.logits, index, seeds)
        if s.dense:
            mine = mine + s.dense * dense_loss(answer.cells, self.train, index, seeds, whole)
        state.keep(answer.logits, index)
        return self._descend(phase, state, mine)

    def _descend(self, phase: Phase, state: PhaseState, mine: Tensor) -> float:
        """One step down this process's share of a loss, and what it is of all processes."""
        seen = state.seen
        value = distributed.total(mine.detach()).item()
        if not math.isfinite(value):
            self.status.write("failed", phase.progress(seen), phase.name, seen=seen)
            raise FloatingPointError(f"The loss is {value} after {seen} pictures of {phase.name}.")
        state.descend(mine)
        return value

    def _loss_of_windows(
        self, phase: Phase, index: np.ndarray, seeds: np.ndarray, whole: np.ndarray
    ) -> Tensor:
        """``dense_loss`` of a square of each picture."""
        cells = self.spec.size // architectures.STRIDE, self.settings.window // architectures.STRIDE
        windows = [self.train.window(int(k), int(s), *cells) for k, s in zip(index, seeds)]
        answer = self._answer(phase, index, seeds, windows)
        return dense_loss(answer.cells, self.train, index, seeds, whole, windows)

    def _answer(
        self,
        phase: Phase,
        index: np.ndarray,
        seeds: np.ndarray,
        windows: Sequence[tuple[slice, slice]] = (),
    ) -> Answer:
        """Of the network in training, to pictures varied by their seeds. windows: the cells of each
        that it sees; none for all."""
        grey = torch.from_numpy(self.train.canvases[index]).float().div_(255)[:, None]
        grey = vary(grey, seeds)
        if windows:
            grey = torch.stack([g[:, pixels(r), pixels(c)] for g, (r, c) in zip(grey, windows)])
        x = grey.sub_(self.spec.mean).div_(self.spec.std).expand(-1, 3, -1, -1)
        x = x.to(self.device.processor).contiguous(memory_format=torch.channels_last)
        with precision.autocast(self.device, self.settings.precision):
            return phase.forward(phase.module.train(), x)

    def _unsteady(
        self, phase: Phase, logits: Logits, index: np.ndarray, seeds: np.ndarray
    ) -> Tensor:
        """``steady_loss`` of a second view of the first quarter of the pictures."""
        some = index[: max(1, len(index) // 4)]
        again = self._answer(phase, some, np.bitwise_xor(seeds[: len(some)], _OTHERWISE))
        return steady_loss(logits, again.logits, self.train, index)

    def _validate(self, phase: Phase, state: PhaseState) -> None:
        """Score the averaged weights on the validation split and keep the best."""
        module = state.average.module.eval()
        figures, score = self.validation.score(phase, module)
        state.waited += 1
        if state.best is None or score > state.score:
            state.score, state.best, state.waited = score, _cpu(module.state_dict()), 0
        event = {
            "phase": phase.name,
            "seen": state.seen,
            "rate": rate(state.seen, phase, self.settings),
        }
        event |= {"loss": state.take_loss(), "score": score, "best": state.score, **figures}
        event |= {f"train_{k}": v for k, v in state.take_figures(self.train).items()}
        event = {k: _rounded(v) for k, v in event.items()}
        if distributed.first():
            files.append_event(self.folder / "events.jsonl", event | {"time": time.time()})
        log.info("%s", event)
        self.status.write("running", phase.progress(state.seen), phase.name, seen=state.seen)

    def _save(self, phase: Phase, state: PhaseState, done: dict[str, dict[str, Tensor]]) -> None:
        if not distributed.first():
            return
        kinds = list(self.kinds)
        complete = {"phase": phase.name, "done": done, "kinds": kinds, **state.dump()}
        files.save_checkpoint(self.folder / "checkpoint.pt", complete)
        self.status.write("running", phase.progress(state.seen), phase.name, seen=state.seen)

    def _checkpoint(self) -> dict[str, Any] | None:
        """The last one; raises DataInvalid where it knows other kinds than the data has now."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        known = tuple(saved.get("kinds", self.kinds))
        if known != tuple(self.kinds):
            raise DataInvalid(
                f"The data has changed since the checkpoint: it knew {', '.join(known)}, and now "
                f"there are {', '.join(self.kinds)}. Start a new run."
            )
        return saved


def pixels(cells: slice) -> slice:
    """The pixels of a row or column of a local network's cells."""
    return slice(cells.start * architectures.STRIDE, cells.stop * architectures.STRIDE)


def evidence(maps: Tensor, weight: Tensor) -> Tensor:
    """BxCxhxw activations and the 1xC weight of a finding -> Bxhxw, see ``Answer``."""
    return torch.einsum("bchw,c->bhw", maps, weight[0])


def _rounded(value: Any) -> Any:
    """Six decimals; JSON has no NaN, so what is not defined is null."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None


def _cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: copy.copy(v).detach().cpu().clone() for k, v in state.items()}
