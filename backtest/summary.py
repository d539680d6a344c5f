"""What a backtest says: the means with their intervals, a table, a chart, the JSON list."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pygal
from pygal.style import Style
from rich.console import Console
from rich.table import Table

from backtest.cycles import Cycle, Measured
from lunation.settings import Schedule

Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Mean:
    """The mean of a paired difference over cycles. Their days differ, so their errors are independent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Means over the cycles that have a model."""

    cycles: int
    auc_retrained: float
    auc_frozen: float
    auc_policy: float
    log_loss_retrained: float
    log_loss_frozen: float
    calibration_retrained: float
    calibration_frozen: float
    gain_auc: Mean
    """Retrained minus frozen, over the cycles after the first model's own."""
    gain_log_loss: Mean
    parity: float


def summarise(cycles: Sequence[Cycle]) -> Summary:
    """Sum up the cycles that have a model; at least two."""
    with_model = [cycle for cycle in cycles if cycle.retrained is not None]
    later = with_model[1:]
    return Summary(
        cycles=len(with_model),
        auc_retrained=_mean([cycle.retrained for cycle in with_model], "auc"),
        auc_frozen=_mean([cycle.frozen for cycle in with_model], "auc"),
        auc_policy=_mean([cycle.policy for cycle in with_model], "auc"),
        log_loss_retrained=_mean([cycle.retrained for cycle in with_model], "log_loss"),
        log_loss_frozen=_mean([cycle.frozen for cycle in with_model], "log_loss"),
        calibration_retrained=_mean([cycle.retrained for cycle in with_model], "calibration_error"),
        calibration_frozen=_mean([cycle.frozen for cycle in with_model], "calibration_error"),
        gain_auc=_gain(later, "auc"),
        gain_log_loss=_gain(later, "log_loss"),
        parity=max(cycle.parity for cycle in with_model),
    )


def _mean(measured: Sequence[Measured | None], name: str) -> float:
    values = [getattr(one, name) for one in measured if one is not None]
    return sum(values) / len(values)


def _gain(cycles: Sequence[Cycle], name: str) -> Mean:
    gains = [cycle.gain for cycle in cycles if cycle.gain is not None]
    value = sum(getattr(gain, name) for gain in gains) / len(gains)
    spreads = [(getattr(gain, f"{name}_high") - getattr(gain, f"{name}_low")) / (2 * Z) for gain in gains]
    error = math.sqrt(sum(spread**2 for spread in spreads)) / len(gains)
    return Mean(value, value - Z * error, value + Z * error)


def as_rows(cycles: Sequence[Cycle]) -> list[dict[str, Any]]:
    """The list of the JSON file. A cycle before there was a model has null where a measure would be."""
    return [
        {
            "cycle": cycle.cycle,
            "rows": cycle.rows,
            "auc_retrained": cycle.retrained and cycle.retrained.auc,
            "auc_frozen": cycle.frozen and cycle.frozen.auc,
            "auc_policy": cycle.policy and cycle.policy.auc,
            "log_loss_retrained": cycle.retrained and cycle.retrained.log_loss,
            "log_loss_frozen": cycle.frozen and cycle.frozen.log_loss,
            "verdict": cycle.verdict,
            "auc_served": cycle.served and cycle.served.auc,
            "calibration_retrained": cycle.retrained and cycle.retrained.calibration_error,
            "calibration_frozen": cycle.frozen and cycle.frozen.calibration_error,
            "positive_share": None if math.isnan(cycle.positive_share) else round(cycle.positive_share, 4),
            "gain": cycle.gain and asdict(cycle.gain),
            "pointer": cycle.pointer,
            "begins": cycle.begins,
            "train_rows": cycle.train_rows,
            "parity_max_abs_diff": cycle.parity,
            "reason": cycle.reason,
            "seconds": {
                "convert": cycle.convert_seconds,
                "train": cycle.train_seconds,
                "evaluate": cycle.evaluate_seconds,
            },
        }
        for cycle in cycles
    ]


def table(name: str, cycles: Sequence[Cycle], weeks: int) -> Table:
    """A line a cycle of so many weeks."""
    every = "week" if weeks == 1 else f"{weeks} weeks"
    shown = Table(title=f"{name}: retrained every {every} against the first model, frozen", title_justify="left")
    for column in (
        "cycle", "begins", "rows", "positive", "AUC retrained", "frozen", "policy", "gain (95 %)",
        "log-loss retrained", "frozen", "calibration retrained", "frozen", "verdict", "pointer",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column in ("verdict", "pointer", "begins") else "right")
    for cycle in cycles:
        gain = cycle.gain
        shown.add_row(
            str(cycle.cycle),
            cycle.begins,
            f"{cycle.rows:,}",
            f"{cycle.positive_share:.2f}",
            *(_shown(one, "auc") for one in (cycle.retrained, cycle.frozen, cycle.policy)),
            "" if gain is None else f"{gain.auc:+.3f} ({gain.auc_low:+.3f} to {gain.auc_high:+.3f})",
            *(_shown(one, "log_loss") for one in (cycle.retrained, cycle.frozen)),
            *(_shown(one, "calibration_error") for one in (cycle.retrained, cycle.frozen)),
            cycle.verdict,
            cycle.pointer or "",
        )
    return shown


def _shown(measured: Measured | None, name: str) -> str:
    return "" if measured is None else f"{getattr(measured, name):.3f}"


def tell(console: Console, name: str, cycles: Sequence[Cycle], weeks: int) -> None:
    """Print the table and what it comes to."""
    console.print(table(name, cycles, weeks))
    found = summarise(cycles)
    gain, loss = found.gain_auc, found.gain_log_loss
    console.print(
        f"Mean AUC over {found.cycles} cycles: retrained {found.auc_retrained:.4f}, frozen {found.auc_frozen:.4f}, "
        f"the policy's choice {found.auc_policy:.4f}.\n"
        f"Retrained minus frozen after the first model: AUC {gain.value:+.4f} (95 %: {gain.low:+.4f} to "
        f"{gain.high:+.4f}), log-loss {loss.value:+.4f} ({loss.low:+.4f} to {loss.high:+.4f}).\n"
        f"Calibration error: retrained {found.calibration_retrained:.4f}, frozen {found.calibration_frozen:.4f}. "
        f"Parity at most {found.parity:.0e}."
    )


def chart(name: str, cycles: Sequence[Cycle], schedule: Schedule) -> bytes:
    """An SVG: AUC of each cycle's models, the retrained one with the interval of its difference to the frozen one."""
    shown = [cycle for cycle in cycles if cycle.retrained is not None]
    retrained = [
        {
            "value": cycle.retrained.auc,
            "ci": {"low": cycle.frozen.auc + cycle.gain.auc_low, "high": cycle.frozen.auc + cycle.gain.auc_high},
        }
        for cycle in shown
        if cycle.retrained and cycle.frozen and cycle.gain
    ]
    frozen = [cycle.frozen.auc for cycle in shown if cycle.frozen]
    ends = [*frozen, *(bound for one in retrained for bound in one["ci"].values())]  # type: ignore[attr-defined]
    figure = pygal.Line(
        title=f"{name}: AUC of each cycle's {schedule.evaluation_days} days (bars: 95 % of retrained minus frozen)",
        style=Style(
            background="white", plot_background="white", colors=("#0b6e4f", "#c1440e", "#8a8a8a"), title_font_size=15
        ),
        width=900,
        height=420,
        range=(min(ends) - 0.01, max(ends) + 0.01),
        x_title="cycle, and the day its window begins",
        x_label_rotation=30,
        legend_at_bottom=True,
        truncate_legend=-1,
        value_formatter=lambda value: f"{value:.3f}",
        js=[],
        explicit_size=True,
    )
    figure.x_labels = [f"{cycle.cycle} ({cycle.begins[5:]})" for cycle in shown]
    figure.add("retrained every cycle", retrained)
    figure.add("frozen", frozen)
    figure.add(
        "served meanwhile", [cycle.served and cycle.served.auc for cycle in shown], stroke_style={"dasharray": "4, 4"}
    )
    return figure.render()
