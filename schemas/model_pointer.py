"""The pointer that names the serving model and its candidates, and its history."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

HARD_BOUND_SECONDS = 30.0
"""Longest time, in seconds, after a move of the pointer in which a request may still be answered by the model before.

A request that finds the pointer last read longer ago than this waits until the pointer is read again.
"""


class NamedModel(BaseModel):
    """A model, where it lies, and the hash that vouches for it."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_version: str
    uri: str
    """``gs://<bucket>/models/<training date>/<run_id>``, without a slash at the end."""
    manifest_sha256: str


class Canary(NamedModel):
    """A model that answers some of the records."""

    share: float = Field(gt=0.0, lt=1.0)
    """Of all record ids. Which ones is decided by a hash, so an id stays on its side of the line."""


class ModelPointer(NamedModel):
    """Kind ``ModelPointer``, key name = the use case. Moved only by compare-and-set."""

    use_case: str
    generation: int = Field(ge=1)
    """Grows by one with each move, a candidate's included."""
    moved_at: AwareDatetime
    shadow: NamedModel | None = None
    """Scored beside the served model and compared with it, never served."""
    canary: Canary | None = None


class ModelPromotion(NamedModel):
    """Kind ``ModelPromotion``, key name ``<use case>:<generation, ten digits>``: one row for each move, inserted
    in the same commit as the move. It holds the pointer as it stood from then on."""

    use_case: str
    generation: int = Field(ge=1)
    previous_version: str | None
    verdict: str
    """What kind of move: ``PROMOTE`` by the gate or a person; ``ROLLBACK``, ``SHADOW`` or ``CANARY`` by a person."""
    reason: str
    actor: str
    """The workflow execution or the person who moved it."""
    moved_at: AwareDatetime
    shadow: NamedModel | None = None
    canary: Canary | None = None

    @staticmethod
    def key_name(use_case: str, generation: int) -> str:
        """The key name that the history row of this generation has."""
        return f"{use_case}:{generation:010d}"
