"""Command line: ``python -m training COMMAND``, one function a command below."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import CascadeError, SettingsInvalid, of_disk
from core.settings import Settings
from core.types import Mode

if TYPE_CHECKING:
    from core.cascade import Cascade


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        options = _options(sys.argv[1:] if arguments is None else arguments)
        code = options.run(options)
    except CascadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        logging.getLogger(__name__).debug("A file or folder refused.", exc_info=True)
        print(f"error: {of_disk(error)}", file=sys.stderr)
        return 1
    return code or 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    wanted = next((a for a in arguments if not a.startswith("-")), "")
    return _parser(wanted).parse_args(arguments)


def _parser(wanted: str) -> argparse.ArgumentParser:
    """All commands by name, and the options of the wanted one: reading them imports its module."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Retrain the cascade.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text, arguments, run in (
        ("data", "show what is in the data sets", _data_arguments, _data),
        ("distill", "pre-train a ResNet50 from an ImageNet teacher", _distill_arguments, _distill),
        ("fit", "train the trunk and all branches", _fit_arguments, _fit),
        ("calibrate", "make a candidate release from a run", _calibrate_arguments, _calibrate),
        ("member", "add a network to a release's ensemble", _member_arguments, _member),
        ("average", "the mean of runs of fit --arch", _average_arguments, _average),
        ("screen", "which networks of fit --arch are worth it", _screen_arguments, _screen),
        ("evaluate", "score a release on one split", _evaluate_arguments, _evaluate),
        ("joint", "score the heads of a run's joint phase", _joint_arguments, _joint),
        ("heatmaps", "do the heatmaps point at what was found?", _heatmaps_arguments, _heatmaps),
        ("robustness", "do answers survive handling?", _robustness_arguments, _robustness),
        ("strangers", "is what is no radiograph refused?", _strangers_arguments, _strangers),
        ("photographs", "do answers survive a camera?", _photographs_arguments, _photographs),
        ("corners", "learn which quadrilateral is the film", _corners_arguments, _corners),
        ("quantise", "make int8 networks and check them", _quantise_arguments, _quantise),
        ("simulate", "make simulated radiographs", _simulate_arguments, _simulate),
        ("release", "put a candidate into weights/", _release_arguments, _release),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name == wanted:
            arguments(command)
        command.set_defaults(run=run)
    return parser


def _settings_arguments(parser: argparse.ArgumentParser, settings: type[Any]) -> None:
    """An option for each field of a settings class."""
    from training.jobs import presets

    for field in dataclasses.fields(settings):
        flag = "--" + field.name.replace("_", "-")
        required = field.default is dataclasses.MISSING
        if field.type == "tuple[str, ...]":
            parser.add_argument(flag, action="append", required=required, metavar="KIND:PATH")
            continue
        kind = {"int": int, "float": float, "str": str}[str(field.type)]
        default = None if required else field.default
        note = None if required else f"default: {default}"
        known = presets.CHOICES.get(field.name) if field.name in ("device", "duplicates") else None
        parser.add_argument(
            flag, type=kind, required=required, default=default, help=note, choices=known
        )


def _collect(options: argparse.Namespace, settings: type[Any]) -> Any:
    """The settings that the options say; raises SettingsInvalid for what they refuse."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(settings)}
    try:
        return settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except ValueError as error:
        raise SettingsInvalid(str(error)) from error


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    from training import inspect_data

    inspect_data.add_arguments(parser)


def _data(options: argparse.Namespace) -> None:
    from training import inspect_data

    print(inspect_data.run(options))


def _distill_arguments(parser: argparse.ArgumentParser) -> None:
    from training.distill import Settings

    _settings_arguments(parser, Settings)


def _distill(options: argparse.Namespace) -> None:
    from core.allocator import keep_large_blocks
    from training import distill

    keep_large_blocks()
    print(distill.Distillation(_collect(options, distill.Settings)).run())


def _fit_arguments(parser: argparse.ArgumentParser) -> None:
    from training.fit import Settings

    _settings_arguments(parser, Settings)


def _fit(options: argparse.Namespace) -> None:
    from core.architectures import RESNET50
    from training import distributed, fit, fit_member

    settings = _collect(options, fit.Settings)
    kind = fit.Run if settings.arch == RESNET50 else fit_member.MemberRun
    with distributed.processes(settings.device):
        path = kind(settings).fit()
        if distributed.first():
            print(path)


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument("--id", required=True, help="id of the release, such as 2026.12-1")
    parser.add_argument("--flip-average", action="store_true", help="score the mirror image too")
    parser.add_argument("--size", type=int, default=0, help="input side (default: as trained)")


def _calibrate(options: argparse.Namespace) -> None:
    from training import candidate

    print(candidate.build(options.run_folder, options.id, options.flip_average, options.size))


def _average_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="or the release they began with")
    parser.add_argument("--out", type=Path, required=True)


def _average(options: argparse.Namespace) -> None:
    from training import average

    print(average.build(options.runs, options.out))


def _screen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "networks", nargs="+", metavar="RUN", help="or a release, or several joined by + (the mean)"
    )
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")


def _screen(options: argparse.Namespace) -> None:
    from training import evaluate, screen

    print(evaluate.table(screen.measure(options.networks, options.data, draws=options.draws)))


def _member_arguments(parser: argparse.ArgumentParser) -> None:
    from training.member import Settings

    _settings_arguments(parser, Settings)


def _member(options: argparse.Namespace) -> None:
    from core.settings import Settings
    from training import member

    print(member.build(_collect(options, member.Settings), Settings.from_environment()))


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--release", default="champion")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")
    parser.add_argument(
        "--copies",
        action="store_true",
        help="also give the figures without pictures that have a copy in the training split",
    )
    parser.add_argument(
        "--mode", type=Mode, choices=[*Mode], help="as the release is used (default: as it says)"
    )
    parser.add_argument("--baseline", choices=("lite2",), help="measure the yardstick beside it")
    parser.add_argument("--out", type=Path, help="folder for metrics.json, scores.csv, report.html")


def _evaluate(options: argparse.Namespace) -> None:
    from training import evaluation

    evaluation.run(_collect(options, evaluation.Settings), print)


def _heatmaps_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--release", default="champion")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as evaluate's --out")


def _heatmaps(options: argparse.Namespace) -> None:
    from core.cascade import Cascade
    from training import heatmaps
    from training.data import read_all

    cascade = Cascade.load(options.weights, options.release, options.device)
    rows = heatmaps.chosen(read_all(options.data), cascade.release.parts, options.split)
    records = heatmaps.measure(cascade, rows, options.draws)
    _show(records, cascade, options.out, "heatmaps.json", options.split)


def _joint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")


def _joint(options: argparse.Namespace) -> None:
    from training import evaluate, joint

    records = joint.measure(options.run_folder, options.data, options.split, options.draws)
    print(evaluate.table(records))


def _robustness_arguments(parser: argparse.ArgumentParser) -> None:
    _heatmaps_arguments(parser)
    parser.add_argument("--count", type=int, default=200, help="radiographs (default: 200)")


def _robustness(options: argparse.Namespace) -> None:
    from core.cascade import Cascade
    from training import robustness
    from training.data import read_all

    cascade = Cascade.load(options.weights, options.release, options.device)
    parts = cascade.release.parts
    rows = robustness.chosen(read_all(options.data), parts, options.split, options.count)
    records = robustness.measure(cascade, rows, options.draws)
    _show(records, cascade, options.out, "robustness.json", options.split)


def _photographs_arguments(parser: argparse.ArgumentParser) -> None:
    _robustness_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the photographs (default: 0)")
    parser.add_argument(
        "--plain", type=int, default=2000, help="radiographs for the false alarms (default: 2000)"
    )


def _photographs(options: argparse.Namespace) -> None:
    from core.cascade import Cascade
    from training import photographs, robustness
    from training.data import read_all

    rows = read_all(options.data)
    cascade = Cascade.load(options.weights, options.release, options.device)
    parts = cascade.release.parts
    chosen = robustness.chosen(rows, parts, options.split, options.count)
    records = photographs.measure(cascade, chosen, options.draws, options.seed)
    plain = photographs.plain(rows, options.split, options.plain)
    records += photographs.false_alarms(plain, options.draws)
    _show(records, cascade, options.out, "photographs.json", options.split)


def _corners_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument(
        "--count", type=int, default=260, help="training radiographs (default: 260)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the photographs (default: 1)")


def _corners(options: argparse.Namespace) -> None:
    from training import corners
    from training.data import read_all

    print(corners.learn(read_all(options.data), options.count, options.seed))


def _show(
    records: list[dict[str, Any]], cascade: Cascade, out: Path | None, name: str, split: str = ""
) -> None:
    """Print the figures; write them to ``out``, where ``release`` finds them. split: of what was
    measured, "" of what belongs to none."""
    from training import evaluate

    print(evaluate.table(records))
    if out:
        about = {"release": cascade.release.id, "release_sha256": cascade.release.sha256}
        about |= {"split": split} if split else {}
        print(evaluate.write(records, out, about, name))


def _strangers_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--release", default="champion")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--count", type=int, default=100, help="of each kind (default: 100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for strangers.json, as evaluate's --out")


def _strangers(options: argparse.Namespace) -> None:
    from core.cascade import Cascade
    from training import strangers

    cascade = Cascade.load(options.weights, options.release, options.device)
    records = strangers.measure(cascade, options.count, options.seed)
    _show(records, cascade, options.out, "strangers.json")


def _quantise_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", required=True, metavar="KIND:PATH")
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--release", default="champion")
    parser.add_argument("--calibration", type=int, default=300, help="pictures (default: 300)")
    parser.add_argument("--seed", type=int, default=0)


def _quantise(options: argparse.Namespace) -> None:
    from core.cascade import Cascade
    from core.settings import Settings
    from training import quantise
    from training.data import read_all

    cascade = Cascade.load(options.weights, options.release, "cpu")
    rows, home = read_all(options.data), Settings.from_environment().home
    print(quantise.run(cascade, rows, home, options.calibration, options.seed))


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    from training.simulate import cli

    cli.add_arguments(parser)


def _simulate(options: argparse.Namespace) -> int:
    from training.simulate import cli

    return cli.run(options)


def _release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument("--weights", type=Path, default=Settings.from_environment().weights)
    parser.add_argument("--alias", default="champion")
    parser.add_argument(
        "--optional", action="append", default=[], metavar="PART",
        help="a part whose files need not be installed; may be given several times",
    )  # fmt: skip


def _release(options: argparse.Namespace) -> None:
    from training import release

    folder, weights = options.run_folder, options.weights
    print(release.promote(folder, weights, options.alias, options.optional))


if __name__ == "__main__":
    sys.exit(main())
