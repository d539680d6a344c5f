"""What a training run says of its model in a few kilobytes: all that the workflow needs, which holds at most 512 KB."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from schemas.model_manifest import ModelManifest, Verdict

REASONS = 8
REASON_CHARACTERS = 400


class ToldVerdict(BaseModel):
    """``verdict.json``, written beside ``manifest.json`` and after it."""

    NAME: ClassVar[str] = "verdict.json"
    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_version: str
    run_id: str
    use_case: str
    uri: str
    """Of the model's folder, ``gs://…``, without a slash at the end."""
    manifest_sha256: str
    champion: str | None
    """The ``model_version`` it was compared with."""
    verdict: Verdict
    reasons: list[str]
    """The first ones, each cut to what a person reads; the manifest has them all."""

    @classmethod
    def of(cls, manifest: ModelManifest, uri: str, manifest_sha256: str) -> Self:
        """What ``manifest``, whose bytes have this hash, says in short."""
        reasons = [_cut(reason) for reason in manifest.reasons[:REASONS]]
        more = len(manifest.reasons) - len(reasons)
        if more:
            reasons.append(f"and {more} more, in {uri}/manifest.json")
        return cls(
            model_version=manifest.model_version,
            run_id=manifest.run_id,
            use_case=manifest.use_case,
            uri=uri,
            manifest_sha256=manifest_sha256,
            champion=manifest.champion,
            verdict=manifest.verdict,
            reasons=reasons,
        )


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARACTERS else f"{reason[: REASON_CHARACTERS - 1]}…"
