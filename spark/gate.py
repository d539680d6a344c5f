"""The gate: may a challenger take over? A policy to be read in a minute; its evidence comes from ``evaluate.py``."""

from dataclasses import dataclass

from schemas.model_manifest import Verdict

PARITY = 1e-9
"""The served artefact may differ from Spark by at most this, in probability, on any row."""
MIN_ROWS = 1000
MIN_OF_A_CLASS = 50
MIN_DAYS = 7
"""Fewer rows, rows of one class, or days say too little: the intervals come from resampling days."""
CHANCE = 0.5
AUC_TOLERANCE = 0.005
"""A challenger this little below the champion counts as equal; equal and newer wins."""
LOG_LOSS_TOLERANCE = 0.05
"""A log-loss that is certainly worse by more than this means probabilities nobody should act on."""


@dataclass(frozen=True)
class Evidence:
    """What was measured on the evaluation window."""

    rows: int
    positives: int
    days: int
    parity_max_abs_diff: float
    auc: float
    auc_low: float
    champion_auc: float | None = None
    """None if no model serves yet; the rest then is unused."""
    auc_gain: float = 0.0
    auc_gain_high: float = 0.0
    """Challenger minus champion, and the upper bound of its paired interval."""
    log_loss_rise: float = 0.0
    log_loss_rise_low: float = 0.0
    """The same, and the lower bound."""


def judge(seen: Evidence) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, for a person. The first rule that applies decides."""
    # Not "greater than": a NaN, too, is no parity.
    if not seen.parity_max_abs_diff <= PARITY:
        return Verdict.REJECT, [
            f"the exported model differs from Spark by up to {seen.parity_max_abs_diff:.2g} in probability, more than "
            f"{PARITY:g}: what would be served is not what was trained"
        ]
    scarce = _too_little(seen)
    if scarce:
        return Verdict.HOLD, scarce
    if not seen.auc_low > CHANCE:
        return Verdict.HOLD, [
            f"AUC {seen.auc:.4f} is not shown to be better than chance: its interval starts at {seen.auc_low:.4f}"
        ]
    if seen.champion_auc is None:
        return Verdict.PROMOTE, [
            f"no model serves yet, and AUC {seen.auc:.4f} is better than chance (interval from {seen.auc_low:.4f})"
        ]
    against = f"AUC {seen.auc:.4f} against the champion's {seen.champion_auc:.4f}"
    if seen.auc_gain < -AUC_TOLERANCE:
        if seen.auc_gain_high < 0.0:
            return Verdict.REJECT, [
                f"{against}: worse by {-seen.auc_gain:.4f}, and the interval excludes equality "
                f"(upper bound {seen.auc_gain_high:+.4f})"
            ]
        return Verdict.HOLD, [
            f"{against}: worse by {-seen.auc_gain:.4f}, more than the tolerance of {AUC_TOLERANCE:g}, but not "
            f"certainly (upper bound {seen.auc_gain_high:+.4f})"
        ]
    if seen.log_loss_rise > LOG_LOSS_TOLERANCE and seen.log_loss_rise_low > 0.0:
        return Verdict.HOLD, [
            f"{against}, but log-loss is higher by {seen.log_loss_rise:.4f}, more than the tolerance of "
            f"{LOG_LOSS_TOLERANCE:g}: its probabilities are worse calibrated"
        ]
    if seen.auc_gain >= 0.0:
        return Verdict.PROMOTE, [f"{against}: better by {seen.auc_gain:.4f}"]
    return Verdict.PROMOTE, [
        f"{against}: lower by {-seen.auc_gain:.4f}, within the tolerance of {AUC_TOLERANCE:g}; "
        "the newer model takes over"
    ]


def _too_little(seen: Evidence) -> list[str]:
    reasons = []
    if seen.rows < MIN_ROWS:
        reasons.append(f"the evaluation window has {seen.rows} labelled rows, fewer than {MIN_ROWS}")
    if min(seen.positives, seen.rows - seen.positives) < MIN_OF_A_CLASS:
        reasons.append(
            f"the evaluation window has {seen.positives} positive and {seen.rows - seen.positives} negative labels; "
            f"each class needs {MIN_OF_A_CLASS}"
        )
    if seen.days < MIN_DAYS:
        reasons.append(f"the evaluation window has labels on {seen.days} days, fewer than {MIN_DAYS}")
    return reasons
