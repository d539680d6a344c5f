"""Promises of the gate, on constructed cases."""

from dataclasses import replace

import pytest

from schemas.evaluation import Segment
from schemas.model_manifest import DataCheck, Verdict
from spark.gate import Evidence, judge

FIRST = Evidence(rows=20_000, positives=4_000, days=28, parity_max_abs_diff=3e-16, auc=0.70, auc_low=0.68)
NEXT = replace(FIRST, champion_auc=0.70)
PASSED = DataCheck(name="volume", passed=True, value=1.0, limit=5.0, text="every day is as its weekday was")
DRIFTED = DataCheck(name="drift", passed=False, value=0.4, limit=0.25, text="drifted: distance (0.40)")
BROKEN = DataCheck(name="label_rate", passed=False, value=9.0, limit=4.0, text="75.0% of the labels are positive")
WORSE = Segment(
    feature="carrier",
    value="UA",
    rows=2_000,
    positives=400,
    auc=0.60,
    champion_auc=0.65,
    auc_gain=-0.05,
    auc_gain_error=0.01,
    log_loss=0.6,
    champion_log_loss=0.5,
    mean_score=0.2,
    rate=0.2,
)
BETTER = replace(NEXT, auc_gain=0.02, auc_gain_high=0.03)


@pytest.mark.parametrize(
    ("case", "seen", "verdict", "reason"),
    [
        ("the first model", FIRST, Verdict.PROMOTE, "no model serves yet"),
        ("better", replace(NEXT, auc_gain=0.02, auc_gain_high=0.03), Verdict.PROMOTE, "better by 0.0200"),
        ("the same", NEXT, Verdict.PROMOTE, "better by 0.0000"),
        (
            "a little lower",
            replace(NEXT, auc_gain=-0.004, auc_gain_high=-0.001),
            Verdict.PROMOTE,
            "within the tolerance",
        ),
        ("lower, uncertain", replace(NEXT, auc_gain=-0.02, auc_gain_high=0.001), Verdict.HOLD, "not certainly"),
        ("lower, certain", replace(NEXT, auc_gain=-0.02, auc_gain_high=-0.01), Verdict.REJECT, "excludes equality"),
        (
            "better ranking, far worse probabilities",
            replace(NEXT, auc_gain=0.01, auc_gain_high=0.02, log_loss_rise=0.2, log_loss_rise_low=0.1),
            Verdict.HOLD,
            "worse calibrated",
        ),
        ("no better than chance", replace(FIRST, auc=0.51, auc_low=0.49), Verdict.HOLD, "than chance"),
        ("few rows", replace(FIRST, rows=999, positives=300), Verdict.HOLD, "999 labelled rows"),
        ("a class that vanished", replace(FIRST, positives=0), Verdict.HOLD, "0 positive and 20000 negative"),
        ("few days", replace(FIRST, days=6), Verdict.HOLD, "on 6 days"),
        ("checks passed", replace(BETTER, checks=[PASSED]), Verdict.PROMOTE, "better by 0.0200"),
        ("drift", replace(BETTER, checks=[PASSED, DRIFTED]), Verdict.HOLD, "drift: drifted: distance"),
        ("broken labels", replace(BETTER, checks=[BROKEN]), Verdict.HOLD, "label_rate: 75.0%"),
        ("broken labels at the first model", replace(FIRST, checks=[BROKEN]), Verdict.HOLD, "label_rate: 75.0%"),
        ("worse in one segment", replace(BETTER, segments=[WORSE]), Verdict.HOLD, "worse where carrier is UA"),
        (
            "perhaps worse in one segment",
            replace(BETTER, segments=[replace(WORSE, auc_gain_error=0.02)]),
            Verdict.PROMOTE,
            "better by",
        ),
        (
            "hardly worse in one segment",
            replace(BETTER, segments=[replace(WORSE, auc_gain=-0.01, auc_gain_error=0.001)]),
            Verdict.PROMOTE,
            "better by",
        ),
        (
            "worse in a segment of a few",
            replace(BETTER, segments=[replace(WORSE, positives=49)]),
            Verdict.PROMOTE,
            "better by",
        ),
        (
            "worse than a constant",
            replace(BETTER, constant_log_loss_rise=0.03, constant_log_loss_rise_low=0.01),
            Verdict.HOLD,
            "always answering the rate of the training rows",
        ),
        (
            "the model before was better than both",
            replace(BETTER, frozen="2024-01-01/old", frozen_auc_gain=-0.02, frozen_auc_gain_high=-0.01),
            Verdict.HOLD,
            "roll back to it",
        ),
        (
            "the model before was perhaps better",
            replace(BETTER, frozen="2024-01-01/old", frozen_auc_gain=-0.02, frozen_auc_gain_high=0.01),
            Verdict.PROMOTE,
            "better by",
        ),
        ("too large", replace(BETTER, artefact_bytes=60_000_000), Verdict.REJECT, "60,000,000 bytes"),
        ("too slow", replace(BETTER, artefact_milliseconds=7.0), Verdict.REJECT, "7.0 ms for one record"),
        ("a repetition", replace(BETTER, repeats="repeats 2024-01-01/old"), Verdict.HOLD, "made to be compared"),
        ("an empty window", replace(FIRST, rows=0, positives=0, days=0), Verdict.HOLD, "0 labelled rows"),
        ("no parity", replace(FIRST, parity_max_abs_diff=2e-9), Verdict.REJECT, "differs from Spark"),
        ("parity unknown", replace(FIRST, parity_max_abs_diff=float("nan")), Verdict.REJECT, "differs from Spark"),
        ("chance unknown", replace(FIRST, auc=float("nan"), auc_low=float("nan")), Verdict.HOLD, "than chance"),
    ],
)
def test_verdict(case, seen, verdict, reason):
    """Each case has its verdict, and a reason that names the figure."""
    given, reasons = judge(seen)
    assert given == verdict, case
    assert any(reason in text for text in reasons), reasons
