"""The manifest of a model that no cycle trained: whole in form, with nothing to tell of data and measures."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from schemas import ModelFile, ModelManifest, UseCase, Verdict
from schemas.shapes import model_inputs


def untrained(
    case: UseCase,
    model_version: str,
    files: Mapping[str, bytes],
    categories: dict[str, list[str]],
    *,
    reason: str,
    seed: int = 0,
    trained_at: datetime | None = None,
    parameters: dict[str, Any] | None = None,
) -> ModelManifest:
    """The manifest.

    Args:
        model_version: ``<date>/<run id>``.
        files: the model's files by name.
        categories: the known values of each category.
        reason: why it may serve all the same.
        trained_at: now, if it is not given.
    """
    inputs = model_inputs(case)
    return ModelManifest(
        run_id=model_version.rsplit("/", 1)[-1],
        model_version=model_version,
        use_case=case.name,
        trained_at=trained_at or datetime.now(UTC),
        seed=seed,
        threshold=0.5,
        inputs=[one.name for one in inputs],
        input_kinds=[one.kind for one in inputs],
        categories=categories,
        files=[
            ModelFile(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in files.items()
        ],
        rows={},
        windows={},
        parameters=parameters or {},
        versions={},
        metrics={},
        parity_max_abs_diff=0.0,
        champion=None,
        verdict=Verdict.PROMOTE,
        reasons=[reason],
    )
