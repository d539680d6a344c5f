"""Moves of the model pointer by a person: promote, roll back, shadow, canary.

Each is one commit: the pointer by compare-and-set, its history row by insert. Who reads a pointer, decides, and finds
that somebody else was faster, has to decide again.
"""

import getpass
import socket
from dataclasses import dataclass
from datetime import UTC, datetime

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, GoogleAPICallError
from google.cloud import datastore
from google.cloud.datastore.helpers import entity_from_protobuf, entity_to_protobuf
from google.cloud.datastore_v1 import CommitRequest, Mutation, TransactionOptions
from pydantic import BaseModel

from lunation import model_folder, query
from lunation.clients import Clients
from lunation.deploy.table import models_bucket
from schemas import Canary, ModelPointer, ModelPromotion, NamedModel, Verdict
from schemas.shapes import unindexed


class MoveRefused(ValueError):
    """The pointer was not moved; the text says why and what to do."""


@dataclass(frozen=True)
class Standing:
    """The pointer as it was read, and the version of its entity; version 0 and no pointer before the first model."""

    pointer: ModelPointer | None
    version: int


def promote(
    clients: Clients, use_case: str, model_version: str, reason: str, *, despite_verdict: bool = False
) -> ModelPromotion:
    """Serve ``model_version``. A canary ends; a shadow stays, unless it is the model that now serves.

    Raises:
        MoveRefused: it serves already, the gate rejected it, or somebody else moved the pointer meanwhile.
        lunation.model_folder.FolderRefused: its folder is not what it should be.
    """
    before = _standing(clients, use_case)
    if before.pointer is not None and before.pointer.model_version == model_version:
        raise MoveRefused(f"{model_version} serves already, since generation {before.pointer.generation}")
    named = _accepted(clients, use_case, model_version, despite_verdict)
    return _move(clients, use_case, before, "PROMOTE", reason, named, _kept_shadow(before, named), None)


def rollback(clients: Clients, use_case: str, reason: str, *, to: int | None = None) -> ModelPromotion:
    """Serve an older model again: that of generation ``to``, or the one before the one that serves.

    A model that was rolled back from is not gone back to: two rollbacks in a row go two models back.

    Raises:
        MoveRefused: there is none, or somebody else moved the pointer meanwhile.
        lunation.model_folder.FolderRefused: its folder is no longer what it was.
    """
    before = _standing(clients, use_case)
    if before.pointer is None:
        raise MoveRefused(f"no model of {use_case} has been promoted yet, so there is none to go back to")
    history = query.promotions(clients.datastore, use_case, None)
    older = _generation(history, to) if to is not None else _one_before(history)
    if older.model_version == before.pointer.model_version:
        raise MoveRefused(f"generation {older.generation} is {older.model_version}, which serves now")
    found = model_folder.check(clients.storage, models_bucket(clients.target), older.model_version, use_case)
    if found.named.manifest_sha256 != older.manifest_sha256:
        raise MoveRefused(
            f"{older.uri}/manifest.json is not the one that served as generation {older.generation}: "
            f"its SHA-256 is {found.named.manifest_sha256}, not {older.manifest_sha256}"
        )
    named = NamedModel.model_validate(older.model_dump())
    return _move(clients, use_case, before, "ROLLBACK", reason, named, _kept_shadow(before, named), None)


def shadow(clients: Clients, use_case: str, model_version: str | None, reason: str) -> ModelPromotion:
    """Score ``model_version`` beside the served model without serving it; None ends that.

    Raises:
        MoveRefused: nothing serves yet, it serves itself, or somebody else moved the pointer meanwhile.
        lunation.model_folder.FolderRefused: its folder is not what it should be.
    """
    before, served = _serving(clients, use_case, model_version)
    # A model that the gate rejected may be looked at: nobody gets its answers.
    named = None if model_version is None else _accepted(clients, use_case, model_version, despite_verdict=True)
    return _move(clients, use_case, before, "SHADOW", reason, served, named, served.canary)


def canary(
    clients: Clients,
    use_case: str,
    model_version: str | None,
    reason: str,
    *,
    share: float = 0.1,
    despite_verdict: bool = False,
) -> ModelPromotion:
    """Let ``model_version`` answer ``share`` of the record ids; None ends that.

    Raises:
        MoveRefused: nothing serves yet, it serves itself, the gate rejected it, or somebody else moved the pointer.
        lunation.model_folder.FolderRefused: its folder is not what it should be.
    """
    before, served = _serving(clients, use_case, model_version)
    named = None
    if model_version is not None:
        accepted = _accepted(clients, use_case, model_version, despite_verdict)
        named = Canary(**accepted.model_dump(), share=share)
    return _move(clients, use_case, before, "CANARY", reason, served, served.shadow, named)


# --- what a move needs


def _standing(clients: Clients, use_case: str) -> Standing:
    key = clients.datastore.key("ModelPointer", use_case).to_protobuf()
    found = clients.datastore_api.lookup(project_id=clients.project, keys=[key]).found
    if not found:
        return Standing(None, 0)
    entity = entity_from_protobuf(found[0].entity)
    return Standing(ModelPointer.model_validate(dict(entity)), found[0].version)


def _serving(clients: Clients, use_case: str, model_version: str | None) -> tuple[Standing, ModelPointer]:
    before = _standing(clients, use_case)
    if before.pointer is None:
        raise MoveRefused(f"no model of {use_case} serves yet, so there is none to compare with: promote one first")
    if before.pointer.model_version == model_version:
        raise MoveRefused(f"{model_version} is the model that serves; a candidate is another one")
    return before, before.pointer


def _accepted(clients: Clients, use_case: str, model_version: str, despite_verdict: bool) -> NamedModel:
    found = model_folder.check(clients.storage, models_bucket(clients.target), model_version, use_case)
    if found.manifest.verdict is Verdict.REJECT and not despite_verdict:
        raise MoveRefused(
            f"the gate rejected {model_version}: {'; '.join(found.manifest.reasons)}. "
            "To let it answer nevertheless, say --despite-verdict"
        )
    return found.named


def _kept_shadow(before: Standing, named: NamedModel) -> NamedModel | None:
    kept = before.pointer.shadow if before.pointer is not None else None
    return None if kept is not None and kept.model_version == named.model_version else kept


def _generation(history: list[ModelPromotion], generation: int) -> ModelPromotion:
    for row in history:
        if row.generation == generation:
            return row
    raise MoveRefused(f"there was no generation {generation}; `lunation models` lists them")


def _one_before(history: list[ModelPromotion]) -> ModelPromotion:
    """The model below the served one on the pile of promotions, from which a rollback takes what is on top."""
    pile: list[ModelPromotion] = []
    for row in reversed(history):
        if row.verdict == "ROLLBACK":
            below = [place for place, older in enumerate(pile) if older.model_version == row.model_version]
            pile = pile[: below[-1]] if below else pile
        if not pile or pile[-1].model_version != row.model_version:
            pile.append(row)
    if len(pile) < 2:
        raise MoveRefused("there is no model before the one that serves; `lunation models` shows the history")
    return pile[-2]


def _move(
    clients: Clients,
    use_case: str,
    before: Standing,
    verdict: str,
    reason: str,
    served: NamedModel,
    shadow: NamedModel | None,
    canary: Canary | None,
) -> ModelPromotion:
    now = datetime.now(UTC)
    pointer = ModelPointer(
        use_case=use_case,
        model_version=served.model_version,
        uri=served.uri,
        manifest_sha256=served.manifest_sha256,
        generation=before.pointer.generation + 1 if before.pointer is not None else 1,
        moved_at=now,
        shadow=shadow,
        canary=canary,
    )
    row = ModelPromotion.model_validate(
        {
            **pointer.model_dump(),
            "previous_version": before.pointer.model_version if before.pointer is not None else None,
            "verdict": verdict,
            "reason": reason,
            "actor": f"{getpass.getuser()}@{socket.gethostname()}",
        }
    )
    moved = Mutation(
        upsert=_entity(clients, use_case, pointer),
        base_version=before.version,
        conflict_resolution_strategy=Mutation.ConflictResolutionStrategy.FAIL,
    )
    noted = Mutation(insert=_entity(clients, row.key_name(use_case, row.generation), row))
    try:
        clients.datastore_api.commit(
            request=CommitRequest(
                project_id=clients.project,
                mode=CommitRequest.Mode.TRANSACTIONAL,
                single_use_transaction=TransactionOptions(read_write=TransactionOptions.ReadWrite()),
                mutations=[moved, noted],
            )
        )
    except GoogleAPICallError as error:
        # Lost, or only the answer lost? The history row itself tells.
        found = clients.datastore.get(clients.datastore.key("ModelPromotion", row.key_name(use_case, row.generation)))
        if found is not None and ModelPromotion.model_validate(dict(found)) == row:
            return row
        if isinstance(error, FailedPrecondition | AlreadyExists | Aborted):
            raise MoveRefused(
                "somebody else moved the pointer at the same time, so nothing was changed: look at "
                "`lunation models`, and decide again"
            ) from error
        raise
    return row


def _entity(clients: Clients, name: str, document: BaseModel) -> object:
    kind = type(document)
    made = datastore.Entity(clients.datastore.key(kind.__name__, name), exclude_from_indexes=unindexed(kind))
    made.update(document.model_dump())
    return entity_to_protobuf(made)
