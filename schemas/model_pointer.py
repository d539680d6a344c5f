"""The pointer that names the serving model, and its history."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class ModelPointer(BaseModel):
    """Kind ``ModelPointer``, key name = the use case. Moved only by compare-and-set."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    use_case: str
    model_version: str
    uri: str
    """``gs://<bucket>/models/<training date>/<run_id>``, without a slash at the end."""
    manifest_sha256: str
    generation: int = Field(ge=1)
    moved_at: AwareDatetime


class ModelPromotion(BaseModel):
    """Kind ``ModelPromotion``, key name ``<use case>:<generation, ten digits>``: one row for each move, inserted
    in the same commit as the move."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    use_case: str
    generation: int = Field(ge=1)
    model_version: str
    previous_version: str | None
    uri: str
    manifest_sha256: str
    verdict: str
    """``PROMOTE``, or ``ROLLBACK`` by a person."""
    reason: str
    actor: str
    """The workflow execution or the person who moved it."""
    moved_at: AwareDatetime

    @staticmethod
    def key_name(use_case: str, generation: int) -> str:
        """The key name that the history row of this generation has."""
        return f"{use_case}:{generation:010d}"
