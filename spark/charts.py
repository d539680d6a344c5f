"""The report's charts, as SVG that stands in a page by itself: no script, no network, the same bytes for the same data.

Drawn by pygal, which is pure Python: the cluster needs no drawing library. Every text goes through an XML tree, so
nothing that strangers typed can become markup.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from schemas.evaluation import CalibrationBin, Curves, InputDrift, MeasuredDay

COLORS = {"challenger": "#1d4ed8", "champion": "#c2410c", "frozen": "#7e22ce"}
NAMES = {"challenger": "new model", "champion": "champion", "frozen": "predecessor"}
GREY = "#9ca3af"
FONT = "system-ui, sans-serif"
# As wide as a telephone, so that text is not shrunk there.
WIDTH, HEIGHT = 360, 270
_SVG = "{http://www.w3.org/2000/svg}"


def roc(curves: Mapping[str, Curves]) -> str:
    """True against false positives, a line for each model, and the diagonal of chance."""
    chart = _xy("roc", curves, "false positive rate", "true positive rate")
    for name, lines in curves.items():
        chart.add(NAMES[name], [tuple(point) for point in lines.roc])
    chart.add("chance", [(0, 0), (1, 1)])
    return _drawn(chart)


def precision_recall(curves: Mapping[str, Curves], rate: float) -> str:
    """Precision against recall, a line for each model, and the rate of positives, which needs no model."""
    chart = _xy("precision-recall", curves, "recall", "precision")
    for name, lines in curves.items():
        chart.add(NAMES[name], [tuple(point) for point in lines.precision_recall])
    chart.add("rate", [(0, rate), (1, rate)])
    return _drawn(chart)


def calibration(reliability: Mapping[str, Sequence[CalibrationBin]]) -> str:
    """What came true against what was said, a dot for each bin, and the diagonal of truth."""
    chart = _xy("calibration", reliability, "probability that was said", "share that came true", show_dots=True)
    for name, bins in reliability.items():
        chart.add(NAMES[name], [(one.probability, one.rate) for one in bins])
    chart.add("as said", [(0, 0), (1, 1)], show_dots=False)
    return _drawn(chart)


def by_day(days: Sequence[MeasuredDay], measure: Literal["auc", "log_loss"]) -> str:
    """A measure of each model, day by day."""
    models = [name for name, _ in days[0].models()] if days else []
    chart = pygal.Line(
        **_options([COLORS[name] for name in models]),
        x_labels=[day.day[5:] for day in days],
        x_labels_major_every=7,
        show_minor_x_labels=False,
        truncate_label=10,
        show_dots=False,
        x_title="day",  # also makes room for the legend, which would be cut off
    )
    chart.uuid = f"by-day-{measure}"
    measured = [dict(day.models()) for day in days]
    for name in models:
        chart.add(NAMES[name], [getattr(day[name], measure) for day in measured])
    return _drawn(chart)


def importance(lost: Mapping[str, float | None], most: int = 12) -> str:
    """The AUC that the model loses without each input, the largest first."""
    picked = list(lost.items())[:most]
    return _bars("importance", [(name, value) for name, value in picked], COLORS["challenger"])


def drift(inputs: Mapping[str, InputDrift], limit: float) -> str:
    """Each input's stability index, the largest first; red: judged and beyond the limit; grey: not judged."""
    ranked = sorted(inputs.items(), key=lambda pair: -pair[1].index)
    colors = [
        GREY if not one.judged else "#b91c1c" if one.index >= limit else COLORS["challenger"] for _, one in ranked
    ]
    return _bars("drift", [(name, one.index) for name, one in ranked], colors)


def shares(name: str, place: int, one: InputDrift, most: int = 24) -> str:
    """How the records are spread over an input's bins, before and now. The fullest bins, if there are many."""
    pairs = list(zip(one.bins, one.reference, one.current, strict=True))
    picked = sorted(sorted(pairs, key=lambda pair: -max(pair[1], pair[2]))[:most], key=pairs.index)
    chart = pygal.Bar(
        **_options([GREY, COLORS["challenger"]]),
        x_labels=[label for label, _, _ in picked],
        x_label_rotation=60,
        truncate_label=14,
        title=name,
    )
    chart.uuid = f"shares-{place}"
    chart.add("before", [before for _, before, _ in picked])
    chart.add("now", [now for _, _, now in picked])
    return _drawn(chart)


def _bars(name: str, rows: Sequence[tuple[str, float | None]], color: str | Sequence[str]) -> str:
    colors = [color] * len(rows) if isinstance(color, str) else list(color)
    options = _options(colors) | {
        "height": max(120, 40 + 22 * len(rows)),
        "show_legend": False,
        "max_scale": 5,
    }
    chart = pygal.HorizontalBar(**options, x_labels=[label for label, _ in rows][::-1], truncate_label=22)
    chart.uuid = name
    chart.add("", [{"value": value, "color": tint} for (_, value), tint in zip(rows, colors, strict=True)][::-1])
    return _drawn(chart)


def _xy(name: str, models: Mapping[str, Any], across: str, up: str, show_dots: bool = False) -> pygal.XY:
    chart = pygal.XY(
        **_options([*(COLORS[model] for model in models), GREY]),
        x_title=across,
        y_title=up,
        show_dots=show_dots,
        range=(0, 1),
        xrange=(0, 1),
        x_labels=[0, 0.25, 0.5, 0.75, 1],
        y_labels=[0, 0.25, 0.5, 0.75, 1],
    )
    chart.uuid = name
    return chart


def _options(colors: Sequence[str]) -> dict[str, Any]:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="#374151",
        foreground_strong="#111827",
        foreground_subtle="#d1d5db",
        colors=tuple(colors) or (GREY,),
        font_family=FONT,
        label_font_size=10,
        major_label_font_size=10,
        legend_font_size=11,
        title_font_size=12,
        tooltip_font_size=11,
        stroke_width="1.8",
        stroke_opacity="1",
        opacity=".9",
        guide_stroke_color="#e5e7eb",
        major_guide_stroke_color="#e5e7eb",
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
    )
    return {
        "style": style,
        "width": WIDTH,
        "height": HEIGHT,
        "margin": 8,
        "spacing": 6,
        "dots_size": 3,
        "js": [],
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 2,
        "legend_box_size": 9,
        "formatter": _number,
        "value_formatter": _number,
    }


def _number(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " · ".join(map(_number, value))
    return "" if value is None else f"{value:.3g}"


def _drawn(chart: Any) -> str:
    """The chart without its script and its date."""
    tree = chart.render_tree()
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag in ("script", f"{_SVG}script") or not isinstance(child.tag, str):
                parent.remove(child)
    return ElementTree.tostring(tree, encoding="unicode")
