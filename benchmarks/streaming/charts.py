"""The report's two pictures: how long an answer takes, and what it costs (docs/decisions, 8).

``python -m benchmarks.streaming.charts figures.json FOLDER`` draws them again from a report.
"""

import json
import sys
from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

import pygal
from pygal.style import Style

from benchmarks.streaming import cost

RATES = tuple(10 ** (step / 8) for step in range(25))
"""Records a second, 1 to 1,000."""
LATENCY = "streaming-latency.svg"
COST = "streaming-cost.svg"


def write(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Draw both into ``folder``."""
    (folder / LATENCY).write_bytes(latency(rows))
    (folder / COST).write_bytes(costs(rows))


def latency(rows: Sequence[dict[str, Any]]) -> bytes:
    """An SVG: median and 99th percentile at each pace, on a scale of powers of ten."""
    named = {row["name"]: row for row in rows}
    paces = [name.split()[3] for name in named if name.startswith("p50 ms at") and name.endswith("default trigger")]
    paces = [pace.rstrip(",") for pace in paces]
    jobs = sorted({name.partition(", streaming, ")[2] for name in named if name.startswith("p50 ms at")})
    chart = pygal.Line(
        logarithmic=True, range=(0.3, 4000), dots_size=5, y_labels=[1, 10, 100, 1000],
        title="From a record to its answer, ms", x_title="records a second",
        **_options(("#0b6e4f", "#7fb89f", "#c1440e", "#e6a98f", "#5b5b8a", "#b0b0cc")),
    )  # fmt: skip
    chart.x_labels = paces
    for measure, short in (("p50 ms", "p50"), ("p99 ms", "p99")):
        found = [named[f"{measure} at {pace}, streaming, {jobs[0]}"] for pace in paces]
        chart.add(f"function, {short}", [row["ours"] for row in found])
    for job in jobs:
        for measure, short in (("p50 ms", "p50"), ("p99 ms", "p99")):
            found = [named[f"{measure} at {pace}, streaming, {job}"] for pace in paces]
            chart.add(f"streaming, {job}, {short}", [row["other"] for row in found])
    return bytes(chart.render())


def costs(rows: Sequence[dict[str, Any]]) -> bytes:
    """An SVG: dollars a month of both, by records a second."""
    busiest = [row for row in rows if row["name"].startswith("CPU ms a record")][-1]
    busy = busiest["ours"] / 1e3
    chart = pygal.XY(
        title="Dollars a month, by list prices", x_title="records a second", xrange=(0, 3), show_dots=False,
        x_value_formatter=lambda power: f"{10**power:,.0f}", **_options(("#0b6e4f", "#c1440e")),
    )  # fmt: skip
    chart.x_labels = [0, 1, 2, 3]
    chart.add("function", [(log10(rate), cost.function(rate, busy)) for rate in RATES])
    chart.add("streaming, a cluster of one node", [(log10(rate), cost.streaming()) for rate in RATES])
    return bytes(chart.render())


def _options(colors: tuple[str, ...]) -> dict[str, Any]:
    return {
        "style": Style(background="white", plot_background="white", colors=colors, title_font_size=15),
        "width": 900,
        "height": 400,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 2,
        "truncate_legend": -1,
        "value_formatter": lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.1f}",
        "js": [],
        "explicit_size": True,
    }


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
