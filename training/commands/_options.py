"""What the commands share: options, settings from options, the cascade they ask, what they show."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.commands._options import device
from core.settings import Settings, of_command
from core.types import Mode

if TYPE_CHECKING:
    from core.cascade import Cascade


def data(parser: argparse.ArgumentParser) -> None:
    from training.sources import SPECIFICATIONS

    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND:PATH", help=SPECIFICATIONS
    )


def split(parser: argparse.ArgumentParser) -> None:
    from training.sources import SPLITS

    parser.add_argument("--split", choices=SPLITS, default="val", help="default: val")


def draws(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws (default: 1000)")


def run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run")


def out(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--out", type=Path, help=f"folder for {what}")


def weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="folder of manifest.json")


def release(parser: argparse.ArgumentParser) -> None:
    """Which release of which folder; what is not said is as ``of_options`` has it."""
    weights(parser)
    parser.add_argument(
        "--release",
        help="release id or alias (default: with --weights champion, else as BONE_RELEASE says)",
    )


def cascade(parser: argparse.ArgumentParser) -> None:
    """The release, and how it is used: where nobody says, as ``of_options`` has it."""
    release(parser)
    device(parser)
    parser.add_argument(
        "--mode",
        type=Mode,
        choices=[*Mode],
        help="how the release is used (default: as it says, without --weights as BONE_MODE says)",
    )


def of_options(options: argparse.Namespace) -> Settings:
    """The settings of a command: those of the environment, but for what its options say.

    BONE_RELEASE and BONE_MODE are about the weights of the program. Where ``--weights`` names a
    folder, such as that of a candidate, nothing but ``--release`` and ``--mode`` say which release
    of it is meant, and how: else its champion, as that says itself.
    """
    given = vars(options)
    found = of_command(given)
    if not given.get("weights"):
        return found
    release, mode = given.get("release") or Settings.release, given.get("mode") or Settings.mode
    return dataclasses.replace(found, release=release, mode=mode)


def loaded(program: Settings) -> Cascade:
    """The cascade that the options and the environment ask for."""
    from core.cascade import Cascade

    found = Cascade.load(program.weights, program.release, program.device)
    return found.in_mode(program.mode)


def of_class(parser: argparse.ArgumentParser, settings: type[Any]) -> None:
    """An option for each field of a settings class, with its meaning as ``training.config`` has it.

    A device that is not given is the program's (``collect``).
    """
    from training.config import HELP
    from training.jobs.presets import CHOICES

    for field in dataclasses.fields(settings):
        flag, meaning = "--" + field.name.replace("_", "-"), field.metadata.get(HELP)
        required = field.default is dataclasses.MISSING
        if field.type == "tuple[str, ...]":
            parser.add_argument(
                flag, action="append", required=required, metavar="KIND:PATH", help=meaning
            )
            continue
        kind = {"int": int, "float": float, "str": str}[str(field.type)]
        given = f"(default: {field.default})" if field.default != "" and not required else None
        parser.add_argument(
            flag,
            type=kind,
            required=required,
            default=None if required or field.name == "device" else field.default,
            choices=CHOICES[field.name] if field.name in ("device", "duplicates") else None,
            help=" ".join(filter(None, (meaning, given))) or None,
        )


def collect(options: argparse.Namespace, settings: type[Any], program: Settings) -> Any:
    """The settings that the options say; what was not said is the program's, where it has it.

    Raises SettingsInvalid for what the settings refuse.
    """
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(settings)}
    for name, value in values.items():
        if value is None:
            values[name] = getattr(program, name, None)
    return settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def show(
    records: list[dict[str, Any]], cascade: Cascade, out: Path | None, name: str, split: str = ""
) -> None:
    """Print the figures; write them to ``out``, where ``release`` finds them. split: of what was
    measured, "" of what belongs to none."""
    from training.records import table, write

    print(table(records))
    if out:
        about = {"release": cascade.release.id, "release_sha256": cascade.release.sha256}
        about |= {"split": split} if split else {}
        print(write(records, out, about, name))
