"""What two runs differ in, by their manifests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.model_manifest import ModelManifest

SHOWN = (
    "use_case",
    "verdict",
    "champion",
    "metrics",
    "rows",
    "windows",
    "inputs",
    "categories",
    "threshold",
    "parameters",
    "seed",
    "code_sha256",
    "versions",
    "files",
    "parity_max_abs_diff",
    "checks",
    "seconds",
)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same; None where only one of them has it."""

    what: str
    """A dotted path into the manifest, for example ``windows.train_to``."""
    before: Any
    now: Any


def differences(before: ModelManifest, now: ModelManifest) -> list[Difference]:
    """What ``now`` has otherwise than ``before``, in the order of the manifest's sections. Runs of equal inputs, code
    and packages differ in ``seconds`` only, and in what they were compared with."""
    left, right = (dict(_facts(manifest)) for manifest in (before, now))
    places = {what: place for place, what in enumerate([*left, *(what for what in right if what not in left)])}
    changed = [what for what in places if left.get(what) != right.get(what)]
    changed.sort(key=lambda what: (SHOWN.index(what.split(".")[0]), places[what]))
    return [_difference(what, left.get(what), right.get(what)) for what in changed]


def _difference(what: str, before: Any, now: Any) -> Difference:
    """Of two long lists, only what one of them lacks."""
    if not (isinstance(before, list) and isinstance(now, list)):
        return Difference(what, before, now)
    return Difference(what, _and(before, now), _and(now, before))


def _and(values: list[Any], others: list[Any]) -> str:
    own = [str(value) for value in values if value not in others]
    return f"{len(values)} values" + (f", only here: {', '.join(own)}" if own else "")


def _facts(manifest: ModelManifest) -> Iterator[tuple[str, Any]]:
    document = manifest.model_dump(mode="json")
    document["metrics"] = {
        measure: value
        for measure, value in (document["metrics"].get("challenger") or {}).items()
        if not measure.endswith(("_low", "_high"))
    }
    document["parameters"].pop("data", None)  # names the run itself
    document["inputs"] = dict(zip(manifest.inputs, manifest.input_kinds, strict=True))
    document["files"] = {file.name: f"{file.bytes} bytes, SHA-256 {file.sha256[:12]}" for file in manifest.files}
    document["checks"] = {check.name: "passed" if check.passed else check.text for check in manifest.checks}
    for section in SHOWN:
        yield from _flat(section, document[section])


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{path}.{key}", item)
    else:
        yield path, value
