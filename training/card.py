"""The model card of a release, written from its manifest entry alone (Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Any

from core.manifest import RESNET50, Release
from core.types import Mode
from training import terms
from training.measured import caution
from training.records import positives

_ROWS = (
    "accuracy",
    "auroc",
    "ece",
    "ece of a calibrated model",
    "accuracy of the majority class",
    "accuracy (balanced)",
    "kappa (balanced)",
    "sensitivity (sensitive)",
    "specificity (sensitive)",
    "sensitivity (specific)",
    "specificity (specific)",
    "refused",
    "pointing game",
    "rank correlation",
    "finding changed",
    "finding turned round",
    "change of probability",
    "body part changed",
    "named right",
    "finding the same",
    "body part the same",
    "corners within 2 %",
    "taken for a photograph",
    "asked about",
)


def model_card(release: Release) -> str:
    """Markdown: what it is, what it was trained on, and how good it is on the test split."""
    data = release.training_data
    parts = ", ".join(p.words for p in release.parts)
    sections = [
        f"# Model card: release {release.id}",
        f"Two-stage cascade of {release.networks}. Stage 1: {parts} or other. Stage 2, one branch "
        f"each. Created {release.created}.",
        f"**Intended use.** {release.intended_use} It was not tested on the cameras, detectors and "
        f"patients of your hospital; measure it on your own radiographs first.",
        f"**Licence.** {release.licence}",
        _training(data),
        _networks(release),
        _meaning(release),
        _figures(release),
        "## Limits\n\n"
        "- Few labelled pictures of each part: read the intervals, not the values.\n"
        f"{_listed(terms.limits(data))}"
        "- The sources differ in look and in share of positives: the figures of each source stand "
        "by themselves above, and the probability is calibrated for their mixture.\n"
        "- A heatmap shows where the evidence for the probability lies. It does not show where a "
        "fracture is, and it says nothing where the probability is low.",
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _training(data: dict[str, Any]) -> str:
    counts = ", ".join(f"{v} {k}" for k, v in data.get("pictures", {}).items())
    lines = [
        "## Training",
        f"Pictures: {counts}, split by patient; SHA-256 of the split "
        f"`{data.get('split_sha256')}`. "
        f"Sources: {', '.join(data.get('sources', []))}.",
        "```sh\n" + "\n".join(data.get("commands", [])) + "\n```",
        data.get("notes", ""),
        terms.credits(data),
    ]
    return "\n\n".join(line for line in lines if line)


def _listed(sentences: list[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def _meaning(release: Release) -> str:
    """The thresholds of each mode; those of a part with one network are the same in all."""
    lines = [
        "## Operating points" + ("" if _held_back(release) else " (chosen on validation)"),
        *_held_back(release),
        "",
        "| part | mode | a positive label meant | point | threshold | sensitivity | specificity "
        "| n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in release.parts:
        for mode in release.modes:
            stage = release.in_mode(mode).stages[part]
            lines += [
                f"| {part} | {mode} | {stage.label_means} | {o.name} | {o.threshold:.3f} | "
                f"{o.sensitivity:.2f} | {o.specificity:.2f} | {o.n} |"
                for o in stage.operating_points
            ]
    return "\n".join(lines)


def _held_back(release: Release) -> list[str]:
    """Where validation taught a network too: what chose its thresholds, and what it tells."""
    whole = release.in_mode(release.largest_mode)
    if not whole.cross_fitted:
        return []
    said = (
        "Validation taught the networks beside the ResNet50 too, by cross-fitting: each held "
        "another part of training and validation back, and their mean is read by what each says of "
        "that."
    )
    if any(stage.chosen_on != "validation" for stage in whole.stages.values()):
        said += (
            " These radiographs chose the thresholds of the mode ensemble: what stands beside them "
            "is what the single networks reach on what each held back, not what their mean does. A "
            "finding is doubtful where the ResNet50, whose word does not count otherwise, "
            "contradicts it."
        )
    return ["", said]


def _networks(release: Release) -> str:
    """The members of each part and what they weigh; empty of a release with one network a part."""
    if Mode.ENSEMBLE not in release.modes:
        return ""
    lines = ["## Networks", "", f"Used as `{release.mode}` where nobody says which.", ""]
    lines += ["| part | network | weight |", "|---|---|---|"]
    for part, stage in release.in_mode(Mode.ENSEMBLE).stages.items():
        if stage.ensemble is not None:
            names = (RESNET50, *(m.name for m in stage.ensemble.members))
            for name, weight in zip(names, stage.ensemble.weights, strict=True):
                lines.append(f"| {part} | {name} | {weight:.2f} |")
    return "\n".join(lines)


def _figures(release: Release) -> str:
    measured = release.metrics
    if not measured.get("figures"):
        return "## Figures\n\nIt was not measured on a test split."
    lines = [
        "## Figures on the test split",
        "",
        f"Printed by `python -m training evaluate --split test`, on {measured.get('device')}; the "
        "rows heatmap, robustness, strangers and photographs by `heatmaps`, `robustness`, "
        f"`strangers` and `photographs`. 95 % intervals from {measured.get('draws')} bootstrap "
        "draws over patients, of strangers and milliseconds over pictures. "
        f"Measured in the mode `{measured.get('mode', release.modes[0])}`. "
        f"{caution(measured)}".strip(),
        "",
        "| stage | part | source | figure | by | value | 95 % interval | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in measured.get("figures", []):
        if (r["metric"] in _ROWS or r["stage"] == "members") and r["value"] is not None:
            interval = (
                f"{r['low']:.3f} to {r['high']:.3f}" if r["low"] is not None else "no interval"
            )
            lines.append(
                f"| {r['stage']} | {r['part']} | {r['source']} | {r['metric']} "
                f"| {r.get('level', 'image')} | {r['value']:.3f} | "
                f"{interval} | {r['n']}{positives(r)} |"
            )
    return "\n".join(lines)
