"""Is the data fit to be learned from? Each check compares the newest window with what was usual, and says so."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from schemas.check_limits import CheckLimits
from schemas.model_manifest import DataCheck
from schemas.profile import DELAY_HOURS, LABEL, LABEL_DELAY
from schemas.shapes import ModelInput
from spark.day_counts import Counts
from spark.drift import Drift

NONE, NEGATIVE, POSITIVE = range(3)
EARLY = 1
"""The bin of labels that are not younger than their record."""
WEEK = 7
REASONS = 3
"""So many reasons for which lines are refused are told, each with an object."""


@dataclass(frozen=True)
class Seen:
    """What the checks look at. ``usual`` and ``newest`` are counted in the same bins, day by day."""

    lines: int
    corrupt: int
    readable: int
    duplicates: int
    inputs: Sequence[ModelInput]
    stored: Sequence[str]
    """The features that the converted data has."""
    newest_from: date
    usual: Counts
    """The days before the newest window, with the labels."""
    newest: Counts
    """The evaluation window, one row a day, also for days without records."""
    drift: Mapping[str, Drift]
    drift_against: str
    """What the drift is measured against, for a person."""
    refused: Sequence[Mapping[str, str]] = ()
    """``object`` and ``reason`` of some of the corrupt lines."""
    skipped: int = 0
    """Objects in the archive that are none of its."""


def check(seen: Seen, limits: CheckLimits) -> list[DataCheck]:
    """Every check, passed or not, in a fixed order. One that has nothing to look at passes and says so."""
    return [
        _schema(seen),
        _corrupt(seen, limits),
        _share("duplicates", seen.duplicates, seen.readable, limits.duplicates, "of the records are repetitions"),
        _volume(seen, limits),
        _missing(seen, limits),
        _unseen(seen, limits),
        _labelled(seen, limits),
        _label_rate(seen, limits),
        _label_delay(seen, limits),
        _labels_early(seen, limits),
        _drift(seen, limits),
    ]


def _schema(seen: Seen) -> DataCheck:
    declared = {item.name for item in seen.inputs}
    odd = sorted(declared ^ set(seen.stored))
    empty = sorted(item.name for item in seen.inputs if _total(seen.newest[item.name])[1:].sum() == 0)
    if odd:
        text = (
            f"the converted data and the features class differ in {', '.join(odd)}: convert with the code that trains"
        )
    elif empty:
        text = f"no record of the newest window has a value for {', '.join(empty)}: ask whether it is still sent"
    else:
        text = f"all {len(declared)} features are there, each with values"
    return DataCheck(
        name="schema", passed=not odd and not empty, value=float(len(odd) + len(empty)), limit=0, text=text
    )


def _share(name: str, part: int, whole: int, limit: float, what: str) -> DataCheck:
    share = part / whole if whole else 0.0
    return DataCheck(
        name=name, passed=share <= limit, value=share, limit=limit, text=f"{share:.2%} {what} (limit {limit:.0%})"
    )


def _corrupt(seen: Seen, limits: CheckLimits) -> DataCheck:
    found = _share("corrupt", seen.corrupt, seen.lines, limits.corrupt, "of the archive's lines cannot be read")
    text = found.text
    if seen.corrupt and seen.refused:
        reasons = Counter(line["reason"] for line in seen.refused)
        named = {line["reason"]: line["object"] for line in reversed(seen.refused)}
        text += ": " + "; ".join(f"{reason} ({named[reason]})" for reason, _ in reasons.most_common(REASONS))
    if seen.skipped:
        text += f"; {seen.skipped} objects skipped, which convert.json names"
    return found.model_copy(update={"text": text})


def _volume(seen: Seen, limits: CheckLimits) -> DataCheck:
    """Each day of the newest window against the median of its weekday before. The last day may not be over: it is not
    judged."""
    before, now = seen.usual[LABEL].sum(axis=1), seen.newest[LABEL].sum(axis=1)
    first = seen.newest_from
    worst, where, judged = 1.0, "", 0
    for day, rows in enumerate(now[:-1]):
        # Counted back from the newest window's first day, so that weekdays meet whatever day that is.
        same = before[len(before) - WEEK + day % WEEK :: -WEEK] if len(before) >= WEEK else before
        same = same[same > 0]
        usual = float(np.median(same)) if len(same) else 0.0
        if usual < limits.volume_rows:
            continue
        judged += 1
        ratio = max(rows, 1e-9) / usual
        if max(ratio, 1 / ratio) > max(worst, 1 / worst):
            worst, where = (
                ratio,
                f"{first + timedelta(days=day)} has {rows} records, {usual:.0f} are usual for its weekday",
            )
    passed = max(worst, 1 / worst) <= limits.volume_ratio
    if not judged:
        text = f"not judged: no weekday had {limits.volume_rows} records before"
    else:
        text = f"{where or 'every day is as its weekday was'} (limit {limits.volume_ratio:g} times more or fewer)"
    return DataCheck(name="volume", passed=passed, value=worst, limit=limits.volume_ratio, text=text)


def _missing(seen: Seen, limits: CheckLimits) -> DataCheck:
    rises = {item.name: _part(seen.newest[item.name], 0) - _part(seen.usual[item.name], 0) for item in seen.inputs}
    texts = {name: f"{name} misses {rise:+.1%} more often than before" for name, rise in rises.items()}
    return _worst("missing", rises, texts, limits.missing_rise, "nothing is missing more often")


def _unseen(seen: Seen, limits: CheckLimits) -> DataCheck:
    shares, texts = {}, {}
    for name in (item.name for item in seen.inputs if item.kind == "category"):
        now, before = _part(seen.newest[name], -1), _part(seen.usual[name], -1)
        shares[name] = now
        texts[name] = (
            f"{name} has a value that the model does not know in {now:.1%} of the records, {before:.1%} before"
        )
        if min(now, before) > limits.unseen:  # among the days trained on, so it is not for being new
            texts[name] += ", so it has more values than are told apart: give it a rate (docs/use-cases.md)"
    return _worst("unseen", shares, texts, limits.unseen, "every category is known")


def _labelled(seen: Seen, limits: CheckLimits) -> DataCheck:
    before, now = 1 - _part(seen.usual[LABEL], NONE), 1 - _part(seen.newest[LABEL], NONE)
    ratio = now / before if before else 1.0
    return DataCheck(
        name="labelled",
        passed=ratio >= limits.labelled_ratio,
        value=ratio,
        limit=limits.labelled_ratio,
        text=f"{now:.1%} of the records have a label, {before:.1%} had (limit {limits.labelled_ratio:g} of that)",
    )


def _label_rate(seen: Seen, limits: CheckLimits) -> DataCheck:
    before, now = (_total(part[LABEL]) for part in (seen.usual, seen.newest))
    # Half a label is added to each, so that a class that is gone has finite odds.
    odds = ((now[POSITIVE] + 0.5) / (now[NEGATIVE] + 0.5)) / ((before[POSITIVE] + 0.5) / (before[NEGATIVE] + 0.5))
    rates = [part[POSITIVE] / max(part[NEGATIVE] + part[POSITIVE], 1) for part in (before, now)]
    return DataCheck(
        name="label_rate",
        passed=max(odds, 1 / odds) <= limits.label_odds,
        value=float(odds),
        limit=limits.label_odds,
        text=f"{rates[1]:.1%} of the labels are positive, {rates[0]:.1%} were: the odds changed by {odds:.2f} "
        f"(limit {limits.label_odds:g} up or down)",
    )


def _label_delay(seen: Seen, limits: CheckLimits) -> DataCheck:
    before, now = (_nine_tenths(_total(part[LABEL_DELAY])) for part in (seen.usual, seen.newest))
    if before is None or now is None:
        return DataCheck(
            name="label_delay", passed=True, value=1.0, limit=limits.label_delay_ratio, text="not judged: no labels"
        )
    ratio = now / before
    return DataCheck(
        name="label_delay",
        passed=ratio <= limits.label_delay_ratio,
        value=ratio,
        limit=limits.label_delay_ratio,
        text=f"nine of ten labels come within {now:g} hours, it was {before:g} "
        f"(limit {limits.label_delay_ratio:g} times)",
    )


def _labels_early(seen: Seen, limits: CheckLimits) -> DataCheck:
    now = _total(seen.newest[LABEL_DELAY])
    return _share(
        "labels_early",
        int(now[EARLY]),
        int(now[1:].sum()),
        limits.labels_early,
        "of the labels are not younger than their record",
    )


def _drift(seen: Seen, limits: CheckLimits) -> DataCheck:
    judged = {item.name: seen.drift[item.name] for item in seen.inputs if not item.drifts}
    rate = limits.drift_false_alarms / max(len(judged), 1)
    drifted = {name: one for name, one in judged.items() if one.index >= limits.drift_index and one.p_value <= rate}
    shown = drifted or judged
    worst = max(shown, key=lambda name: shown[name].index, default="")
    if drifted:
        each = ", ".join(
            f"{name} ({one.index:.2f}, p {one.p_value:.4f})"
            for name, one in sorted(drifted.items(), key=lambda pair: -pair[1].index)
        )
        text = f"against {seen.drift_against}, drifted: {each}"
    elif worst:
        text = f"against {seen.drift_against}, the farthest is {worst} with an index of {judged[worst].index:.3f}"
    else:
        text = "not judged: every input is declared to drift"
    return DataCheck(
        name="drift",
        passed=not drifted,
        value=judged[worst].index if worst else 0.0,
        limit=limits.drift_index,
        text=f"{text} (limit {limits.drift_index:g} and certain at {limits.drift_false_alarms:.0%} false alarms a run)",
    )


def _worst(name: str, values: Mapping[str, float], texts: Mapping[str, str], limit: float, fine: str) -> DataCheck:
    """The check of the largest of ``values``; its text is that of all over the limit."""
    over = sorted((place for place in values if values[place] > limit), key=lambda place: -values[place])
    largest = max(values, key=lambda place: values[place], default=None)
    value = values[largest] if largest is not None else 0.0
    shown = over or ([largest] if largest is not None and value > 0 else [])
    text = "; ".join(texts[place] for place in shown) or fine
    return DataCheck(name=name, passed=not over, value=value, limit=limit, text=f"{text} (limit {limit:.0%})")


def _total(days: np.ndarray) -> np.ndarray:
    return days.sum(axis=0)


def _part(days: np.ndarray, place: int) -> float:
    total = _total(days)
    return float(total[place] / total.sum()) if total.sum() else 0.0


def _nine_tenths(delays: np.ndarray) -> float | None:
    """The edge, in hours, below which nine of ten labels come."""
    labels = delays[1:]
    if not labels.sum():
        return None
    place = int(np.searchsorted(np.cumsum(labels), 0.9 * labels.sum()))
    return max(1.0, (*DELAY_HOURS, 2 * DELAY_HOURS[-1])[place])
