"""The plots show the numbers of the figures, and the page needs nothing beside itself."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from core.types import BodyPart
from tests import scored
from training import figures, plots, report
from training.by_study import points_of

POINTS = scored.release().stages["elbow"].operating_points
EVERY = points_of(scored.release())
ABOUT = {
    "release": "made-1",
    "release_sha256": "ab" * 32,
    "split": "test",
    "split_sha256": "cd" * 32,
    "device": "a CPU",
    "draws": 20,
}


def traces(figure):
    return {t.name.partition(",")[0]: t for t in figure.data}


def test_roc_and_its_operating_point():
    found = traces(plots.roc(scored.rows(), POINTS, EVERY))
    assert found.keys() == {"by image", "by study", "balanced"}
    # by falling threshold .9 .8 .7 .4 .2: positive, positive, negative, negative, positive
    assert list(found["by study"].x) == [0, 0, 0, 0.5, 1, 1]
    assert list(found["by study"].y) == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 1])
    assert found["by study"].name == "by study, AUROC 0.667, n = 5"
    # images called positive at 0.5: two of four positives, two of three negatives
    assert found["balanced"].x[0] == pytest.approx(2 / 3)
    assert found["balanced"].y[0] == pytest.approx(2 / 4)
    # which lies on the curve
    curve = np.stack([found["by image"].x, found["by image"].y])
    assert np.isclose(curve, [[2 / 3], [2 / 4]]).all(0).any()


def test_precision_and_recall_and_the_operating_point():
    figure = plots.precision_recall(scored.rows(), POINTS, EVERY)
    found = traces(figure)
    assert (found["balanced"].x[0], found["balanced"].y[0]) == pytest.approx((2 / 4, 2 / 4))
    by_study = list(zip(found["by study"].x, found["by study"].y))
    assert by_study[:2] == [(1.0, pytest.approx(3 / 5)), (pytest.approx(2 / 3), 2 / 4)]
    # the area under the steps is the average precision that stands beside
    x, y = np.array(found["by image"].x), np.array(found["by image"].y)
    area = float(np.sum((x[:-1] - x[1:]) * y[:-1]))
    assert found["by image"].line.shape == "hv"
    assert f", AUPRC {area:.3f}, " in found["by image"].name
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == pytest.approx(4 / 7)


def test_reliability_shows_the_bins_with_intervals_over_patients():
    rows = pd.concat([scored.rows()] * 30, ignore_index=True)
    rows["probability"], rows["study"] = np.arange(210) / 210, None
    rows["positive"] = ([0.0] * 21 + [1.0] * 21) * 5
    found = traces(plots.reliability(rows, EVERY))["by image"]
    assert list(found.y) == [0.0, 1.0] * 5
    assert found.x[0] == pytest.approx(10 / 210)
    assert found.text[0] == "n=21"
    # The 21 pictures are of five patients: Clopper and Pearson (1934) for 0 of 5
    assert found.error_y.array[0] == pytest.approx(1 - 0.025 ** (1 / 5))
    assert found.error_y.arrayminus[0] == pytest.approx(0)


def test_the_curves_by_study_are_of_the_studies_of_the_figures():
    """Which part leads in a study follows from the operating points of all parts."""
    release, rows = scored.torn()
    written = figures.figures(rows, SimpleNamespace(release=release), draws=20)
    elbow = [r for r in written if (r["part"], r["stage"]) == ("elbow", "fracture")]
    record = {r["metric"]: r for r in elbow if r["level"] == "study" and r["source"] == "all"}
    drawn = plots.of_part(rows, release, BodyPart.ELBOW, written)
    for title, metric in (
        ("ROC", "auroc"), ("Precision and recall", "auprc"), ("Reliability", "ece")
    ):  # fmt: skip
        value, low, high = (record[metric][k] for k in ("value", "low", "high"))
        figures_ = f"{metric.upper()} {value:.3f} [{low:.3f}, {high:.3f}]"
        assert traces(drawn[title])["by study"].name == f"by study, {figures_}, n = 60"
        assert drawn[title].layout.showlegend  # of a single curve, too


def test_histogram_tells_the_labels_apart_by_more_than_colour():
    figure = plots.histogram(scored.rows(), POINTS)
    negative, positive = figure.data
    assert sorted(negative.x) == [0.2, 0.6, 0.7]
    assert sorted(positive.x) == [0.2, 0.3, 0.8, 0.9]
    assert (negative.marker.pattern.shape, positive.marker.pattern.shape) == ("", "/")
    assert [s.x0 for s in figure.layout.shapes] == [0.5]


def test_sources_have_curves_of_their_own_where_there_are_several():
    both = pd.concat([scored.rows(), scored.rows("second")])
    assert {"drawn by image", "second by image"} < traces(plots.roc(both, POINTS, EVERY)).keys()
    assert {"by image", "by study"} == traces(plots.reliability(both, EVERY)).keys()


def test_one_label_gives_no_curve_and_no_error():
    rows = scored.rows().assign(positive=1.0)
    for figure in plots.of_part(rows, scored.release(), BodyPart.ELBOW).values():
        assert not any((t.name or "").startswith("by ") for t in figure.data)


def test_confusion_shows_counts_and_shares():
    legs = scored.rows().head(3).assign(part="leg", said=["rejected", "rejected", "hand"])
    [heat] = plots.confusion(figures.confusion(pd.concat([scored.rows(), legs]))).data
    assert list(heat.y) == ["elbow (7)", "leg (3)"]
    assert list(heat.x) == ["elbow", "hand", "not assessed"]
    assert heat.text[1].tolist() == [0, 1, 2]
    assert heat.z[1].tolist() == pytest.approx([0, 1 / 3, 2 / 3])


def test_simulated_radiographs_are_in_no_plot():
    rows = pd.concat([scored.rows(), scored.rows("simulated")])
    assert set(plots.real(rows, BodyPart.ELBOW).source) == {"drawn"}


@pytest.fixture
def records():
    rows = scored.rows().assign(recalled=0.0)
    return figures.figures(rows, scored.cascade(), draws=20)


def test_chief_figures_in_a_table(records):
    [row] = report.at_a_glance(records).to_dict("records")
    assert row["AUROC, study"] == "too few (3 positive)"
    assert row["Kappa (balanced), study"].startswith("0.167 [")
    assert row["Known-patient baseline (memoriser)"].startswith("0.429 [")
    assert (row["n"], row["Positive"]) == ("7", "4")
    images = report.at_a_glance([r for r in records if r["level"] == "image"])
    assert "AUROC" in images and "AUROC, study" not in images  # which would be empty
    missing = dict.fromkeys(("value", "low", "high"))
    assert "not defined" in report.all_figures([{**records[0], **missing}]).to_numpy()


def test_the_page_needs_nothing_beside_itself(tmp_path, records):
    rows = scored.rows("<img src=x>")
    path = report.write(tmp_path, rows, records, ABOUT, scored.release())
    text = path.read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    ours = text.replace(get_plotlyjs(), "")
    assert not re.search(r"<link|<iframe|@import|url\(|\b(src|href)\s*=|https?://", ours)
    assert "default-src 'none'" in ours
    for words in ("Reliability", "ROC", "Precision and recall", "Probabilities", "Elbow"):
        assert f">{words}</h" in ours
    assert ours.count("Plotly.newPlot") == 5
    assert f"All figures ({len(records)})" in ours
    assert "A positive label means fracture (elbow)." in ours


def test_a_part_without_labels_has_a_sentence(records):
    text = report.page(scored.rows().assign(positive=np.nan), records, ABOUT, scored.release())
    assert "There is no labelled real radiograph of this body part." in text
