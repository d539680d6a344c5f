"""The gate: may a challenger take over? A policy to be read in a minute; its evidence comes from ``evaluation.py``."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.evaluation import Segment
from schemas.model_manifest import DataCheck, Verdict

PARITY = 1e-9
"""The served artefact may differ from Spark by at most this, in probability, on any row."""
MAX_BYTES = 50_000_000
"""A tenth of an instance's memory (512 MiB by default), and seconds of a cold start."""
MAX_MILLISECONDS = 5.0
"""The median of one record through the artefact. The whole answer takes 1 to 2 ms with a small model."""
MIN_ROWS = 1000
MIN_OF_A_CLASS = 50
MIN_DAYS = 7
"""Fewer rows, rows of one class, or days say too little: the intervals come from resampling days."""
CHANCE = 0.5
AUC_TOLERANCE = 0.005
"""A challenger this little below the champion counts as equal; equal and newer wins."""
LOG_LOSS_TOLERANCE = 0.05
"""A log-loss that is certainly worse by more than this means probabilities nobody should act on."""
CONSTANT_TOLERANCE = 0.02
"""The same against always answering the rate of the training rows, which needs no model at all."""
SEGMENT_TOLERANCE = 0.02
"""By so much AUC a segment may lose while the whole gains."""
SEGMENT_ERRORS = 3.0
"""And so many standard errors away from none: with some twenty segments, one in twenty runs would see 2 by chance."""


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
    """None if no model serves yet; what is said against it then is unused."""
    auc_gain: float = 0.0
    auc_gain_high: float = 0.0
    """Challenger minus champion, and the upper bound of its paired interval."""
    log_loss_rise: float = 0.0
    log_loss_rise_low: float = 0.0
    """The same, and the lower bound."""
    constant_log_loss_rise: float = -1.0
    constant_log_loss_rise_low: float = -1.0
    """Challenger minus a constant that always answers the rate of the training rows, and the lower bound."""
    frozen: str | None = None
    """The champion's predecessor; None if there is none, or it is no longer there."""
    frozen_auc_gain: float = 0.0
    frozen_auc_gain_high: float = 0.0
    """Challenger minus that model, and the upper bound."""
    segments: Sequence[Segment] = ()
    checks: Sequence[DataCheck] = ()
    refusal: str | None = None
    """Why no instance could serve it, by the code of ``functions/classify``; None if it can."""
    artefact_bytes: int = 0
    artefact_milliseconds: float = 0.0
    repeats: str | None = None
    """If this run repeats another one (``--like``): how well it agrees, for a person."""


def judge(seen: Evidence) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, for a person. The first rule that applies decides."""
    unfit = _unfit_to_serve(seen)
    if unfit:
        return Verdict.REJECT, unfit
    if seen.repeats is not None:
        return Verdict.HOLD, [f"{seen.repeats}; it is made to be compared, not to serve"]
    held = [f"{check.name}: {check.text}" for check in seen.checks if not check.passed] + _too_little(seen)
    if held:
        return Verdict.HOLD, held
    if not seen.auc_low > CHANCE:
        return Verdict.HOLD, [
            f"AUC {seen.auc:.4f} is not shown to be better than chance: its interval starts at {seen.auc_low:.4f}"
        ]
    if seen.constant_log_loss_rise > CONSTANT_TOLERANCE and seen.constant_log_loss_rise_low > 0.0:
        return Verdict.HOLD, [
            f"its log-loss is certainly higher than that of always answering the rate of the training rows, by "
            f"{seen.constant_log_loss_rise:.4f}: its probabilities mislead"
        ]
    if seen.champion_auc is None:
        return Verdict.PROMOTE, [
            f"no model serves yet, and AUC {seen.auc:.4f} is better than chance (interval from {seen.auc_low:.4f})"
        ]
    return _against_champion(seen, f"AUC {seen.auc:.4f} against the champion's {seen.champion_auc:.4f}")


def _unfit_to_serve(seen: Evidence) -> list[str]:
    reasons = []
    # Not "greater than": a NaN, too, is no parity.
    if not seen.parity_max_abs_diff <= PARITY:
        reasons.append(
            f"the exported model differs from Spark by up to {seen.parity_max_abs_diff:.2g} in probability, more than "
            f"{PARITY:g}: what would be served is not what was trained"
        )
    if seen.refusal is not None:
        reasons.append(f"no instance could serve it: {seen.refusal}")
    if seen.artefact_bytes > MAX_BYTES:
        reasons.append(f"the artefact has {seen.artefact_bytes:,} bytes, more than {MAX_BYTES:,}: train fewer trees")
    if seen.artefact_milliseconds > MAX_MILLISECONDS:
        reasons.append(
            f"the artefact takes {seen.artefact_milliseconds:.1f} ms for one record, more than {MAX_MILLISECONDS:g}: "
            "train fewer or flatter trees"
        )
    return reasons


def _against_champion(seen: Evidence, against: str) -> tuple[Verdict, list[str]]:
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
    worse = [f"{against}, but {_told(segment)}" for segment in seen.segments if _surely_worse(segment)]
    if worse:
        return Verdict.HOLD, worse
    if seen.frozen is not None and seen.frozen_auc_gain < -AUC_TOLERANCE and seen.frozen_auc_gain_high < 0.0:
        return Verdict.HOLD, [
            f"{against}, but the older model {seen.frozen} is certainly better, by {-seen.frozen_auc_gain:.4f}: roll "
            "back to it, and see what changed since"
        ]
    if seen.auc_gain >= 0.0:
        return Verdict.PROMOTE, [f"{against}: better by {seen.auc_gain:.4f}"]
    return Verdict.PROMOTE, [
        f"{against}: lower by {-seen.auc_gain:.4f}, within the tolerance of {AUC_TOLERANCE:g}; "
        "the newer model takes over"
    ]


def _surely_worse(segment: Segment) -> bool:
    if segment.auc_gain is None or segment.auc_gain_error is None:
        return False
    enough = min(segment.positives, segment.rows - segment.positives) >= MIN_OF_A_CLASS
    sure = segment.auc_gain + SEGMENT_ERRORS * segment.auc_gain_error < 0.0
    return enough and sure and segment.auc_gain < -SEGMENT_TOLERANCE


def _told(segment: Segment) -> str:
    return (
        f"worse where {segment.feature} is {segment.value}: AUC {segment.auc:.4f} against {segment.champion_auc:.4f} "
        f"on {segment.rows} rows"
    )


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
