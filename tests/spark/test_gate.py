"""Promises of the gate, on constructed cases."""

from dataclasses import replace

import pytest

from schemas.model_manifest import Verdict
from spark.gate import Evidence, judge

FIRST = Evidence(rows=20_000, positives=4_000, days=28, parity_max_abs_diff=3e-16, auc=0.70, auc_low=0.68)
NEXT = replace(FIRST, champion_auc=0.70)


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
