"""Renders a run for people: ``report.html``, one file that needs no network, and ``MODEL_CARD.md``.

Both follow from ``evaluation.json`` alone, and the same one gives the same bytes. Characters that steer a terminal, or
turn the order of what is read, are shown by their codes: a stranger's record may hold any.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from schemas.evaluation import Evaluation, InputDrift
from schemas.manifest_diff import differences
from schemas.model_manifest import Verdict
from schemas.visible import visible
from spark import charts

REPORT, CARD = "report.html", "MODEL_CARD.md"
MEANINGS = {
    Verdict.PROMOTE: "It takes over.",
    Verdict.HOLD: "The champion goes on serving. A person may promote this one all the same.",
    Verdict.REJECT: "The champion goes on serving.",
}
MEASURES = (
    ("AUC", "auc"),
    ("PR-AUC", "pr_auc"),
    ("log-loss", "log_loss"),
    ("Brier score", "brier"),
    ("calibration error", "calibration_error"),
)
MODELS = (
    ("new model", "challenger"),
    ("champion", "champion"),
    ("predecessor", "frozen"),
    ("constant", "constant"),
)
GAINS = (
    ("champion", "difference"),
    ("predecessor", "difference_frozen"),
    ("constant", "difference_constant"),
)
SHARES_SHOWN = 5
"""Inputs whose bins are drawn: those that moved farthest."""
WEAKEST = 5
"""Limit, in segments, for those that the model card names: the ones with the lowest AUC."""


def html(evaluation: Evaluation, objects: int) -> bytes:
    """The report, as a page of HTML.

    Args:
        objects: how many objects of the archive the run was made of.
    """
    seen = _shown(evaluation)
    run, champion, ranked = seen.manifest, seen.champion, _ranked(seen)
    limit = run.parameters["checks"]["drift_index"]
    drawn: dict[str, Any] = {
        "roc": charts.roc(seen.curves),
        "precision_recall": charts.precision_recall(seen.curves, seen.rate),
        "calibration": charts.calibration(seen.reliability),
        "auc_by_day": charts.by_day(seen.by_day, "auc"),
        "log_loss_by_day": charts.by_day(seen.by_day, "log_loss"),
        "importance": charts.importance(seen.importance),
        "drift": charts.drift(seen.drift, limit),
    }
    # SVG of our own making; every other value is escaped by the template.
    shown: dict[str, Any] = {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704
    shown["shares"] = [
        Markup(charts.shares(name, place, one))  # noqa: S704
        for place, (name, one) in enumerate(ranked[:SHARES_SHOWN])
    ]
    text = _HTML.render(
        **_facts(seen),
        champion=champion,
        changed=[] if champion is None else differences(champion, run),
        charts=shown,
        limit=limit,
        meaning=MEANINGS[run.verdict],
        objects=objects,
        parameters=json.dumps(run.parameters, sort_keys=True),
    )
    return text.encode()


def card(evaluation: Evaluation) -> bytes:
    """The model card, in Markdown."""
    seen = _shown(evaluation)
    known = [(part.auc, place) for place, part in enumerate(seen.segments) if part.auc is not None]
    weakest = [seen.segments[place] for _, place in sorted(known)[:WEAKEST]]
    return _CARD.render(**_facts(seen), weakest=weakest).encode()


def _shown(evaluation: Evaluation) -> Evaluation:
    """``evaluation`` as its file has it, with every text as it may be shown."""
    return Evaluation.model_validate(_visible(json.loads(evaluation.to_json())))


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_visible(key): _visible(item) for key, item in value.items()}
    return [_visible(item) for item in value] if isinstance(value, list) else value


def _ranked(seen: Evaluation) -> list[tuple[str, InputDrift]]:
    """The inputs, those first that moved farthest."""
    return sorted(seen.drift.items(), key=lambda pair: -pair[1].index)


def _facts(seen: Evaluation) -> dict[str, Any]:
    run = seen.manifest
    return {
        "run": run,
        "seen": seen,
        "new": run.metrics["challenger"],
        "gain": run.metrics.get("difference"),
        "failed": sum(not check.passed for check in run.checks),
        "measures": MEASURES,
        "models": [(label, run.metrics[name]) for label, name in MODELS if run.metrics.get(name)],
        "gains": [(label, run.metrics[name]) for label, name in GAINS if run.metrics.get(name)],
        "drift": _ranked(seen),
    }


def _template(name: str) -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {
        "number": lambda value: "–" if value is None else f"{value:.4f}",
        "signed": lambda value: "–" if value is None else f"{value:+.4f}",
        "thousands": lambda value: f"{value:,}",
        "better": lambda value: "" if value is None else "good" if value > 0 else "bad" if value < 0 else "",
        "plainly": _plainly,
        "minute": lambda value: f"{value:%Y-%m-%d %H:%M} UTC",
        "code": _one_line,
    }
    return environment.from_string(files("spark").joinpath(name).read_text())


def _plainly(value: Any) -> str:
    """A value of a manifest for a person, at most a line of it."""
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}…"


def _one_line(text: Any) -> str:
    """Text that cannot leave its line or its backticks in Markdown."""
    return " ".join(str(text).split()).replace("`", "'").replace("|", "/").replace("[", "(").replace("]", ")")


# Once, while the module is imported: it takes a fifth of a second, and a driver imports while Spark starts.
_HTML, _CARD = _template(REPORT), _template("model_card.md")
