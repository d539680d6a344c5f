"""A run that repeats another one: the same objects of the archive, parameters and comparison, with today's code."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.file_hash import hash_mismatch
from schemas.model_manifest import ModelManifest
from spark import objects
from spark.job import EVALUATION_DAYS, Job, JobFailedError

INPUTS = "inputs.json"
"""Every object that a run was made of, with its MD5, in the model's folder."""


@dataclass(frozen=True)
class Original:
    """What the run left in its folder."""

    manifest: ModelManifest
    inputs: Mapping[str, str]
    """URI of each object that it read, with the MD5 of its content in base64."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of its trees; what else its manifest notes beside them is not the classifier's."""
        from pyspark.ml.classification import GBTClassifier

        known = {parameter.name for parameter in GBTClassifier().params}
        return {name: value for name, value in self.manifest.parameters.items() if name in known}

    @property
    def evaluation_days(self) -> int:
        """The length of its evaluation window."""
        return int(self.manifest.parameters.get("evaluation_days", EVALUATION_DAYS))

    @property
    def champion(self) -> str | None:
        """Folder of the model that it was compared with."""
        return None if self.manifest.champion is None else f"models/{self.manifest.champion}"


def original(storage: Any, job: Job) -> Original | None:
    """The run that this one repeats; None if it repeats none.

    Raises:
        JobFailedError: its folder is not there, or not whole.
    """
    if job.like is None:
        return None
    folder = f"{job.models}/{job.like}"
    found = {name: objects.read(storage, f"{folder}/{name}") for name in ("manifest.json", INPUTS)}
    for name, content in found.items():
        if content is None:
            raise JobFailedError(
                f"{folder}/{name} is not there, so the run cannot be repeated; `lunation runs` lists the runs"
            )
    try:
        manifest = ModelManifest.model_validate_json(found["manifest.json"] or b"")
    except ValidationError as error:
        raise JobFailedError(f"{folder}/manifest.json cannot be read ({error.error_count()} errors)") from error
    listed = found[INPUTS] or b""
    expected = {file.name: file.sha256 for file in manifest.evidence}.get(INPUTS)
    if hash_mismatch(INPUTS, listed, expected):
        raise JobFailedError(
            f"{folder}/{INPUTS} is not the file that its manifest names (sha256); restore the bucket's version"
        )
    return Original(manifest, json.loads(listed))


def pinned(original: Original, found: Mapping[str, str], odd: Container[str], folder: str) -> Sequence[str]:
    """The original's objects below ``folder``, which have to be as they were.

    Args:
        found: what is there now, with its MD5.
        odd: what is there and no longer counts as the archive's; an older release may have read it.

    Raises:
        JobFailedError: one is gone, or has another content.
    """
    wanted = {uri: md5 for uri, md5 in original.inputs.items() if uri.startswith(f"{folder}/") and uri not in odd}
    lost = sorted(uri for uri, md5 in wanted.items() if found.get(uri) != md5)
    if lost:
        raise JobFailedError(
            f"{len(lost)} of the {len(wanted)} objects that {original.manifest.model_version} read below {folder} are "
            f"gone or changed, first {lost[0]}; restore them from the bucket's versions, or train anew without --like"
        )
    return sorted(wanted)


def agreement(original: Original, same_bytes: bool, difference: float) -> str:
    """How well the repetition agrees, and if it does not, what was not the same."""
    version = original.manifest.model_version
    if same_bytes:
        return f"repeats {version}: the same artefact, byte for byte"
    return (
        f"repeats {version}: another artefact; over the evaluation window its answers differ by up to {difference:.2g}"
    )
