"""Moves of the model pointer by a person: promote, roll back, shadow, canary.

Each is one commit: the pointer by compare-and-set, its history row by insert. Who reads a pointer, decides, and finds
that somebody else was faster, has to decide again.

Nothing is pointed to that no instance could serve: each model is tried first, by the code of the function that would
serve it (``functions/classify/trial.py``), in a process of its own on the person's machine.
"""

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, GoogleAPICallError
from google.cloud import datastore
from google.cloud.datastore.helpers import entity_from_protobuf, entity_to_protobuf
from google.cloud.datastore_v1 import CommitRequest, Mutation, TransactionOptions
from pydantic import BaseModel

from functions.classify.trial import INSTANCE_BYTES, Folder, Trial, TrialError, room
from lunation import model_folder, query
from lunation.clients import Clients
from lunation.deploy.names import models_bucket
from lunation.model_folder import ModelFolder
from schemas import Canary, ModelPointer, ModelPromotion, NamedModel, Verdict
from schemas import use_case as use_case_called
from schemas.shapes import unindexed

MOST_GENERATIONS = 10**10
"""A history row's key has ten digits for it."""
Try = Callable[[str, ModelFolder], None]
"""Tries a model of a use case; raises :class:`MoveRefusedError` if no instance could serve it."""


class MoveRefusedError(ValueError):
    """The pointer was not moved; the text says why and what to do."""


@dataclass(frozen=True)
class Standing:
    """The pointer as it was read, and the version of its entity; version 0 and no pointer before the first model."""

    pointer: ModelPointer | None
    version: int
    generation: int
    """The last one."""
    previous_version: str | None
    """The model that it names, as far as that can be read."""


def serves_it(use_case: str, found: ModelFolder, memory: int = INSTANCE_BYTES) -> None:
    """Try a model as an instance with so many bytes of memory would serve it.

    Raises:
        MoveRefusedError: no instance could, or the trial could not be held here.
    """
    named = found.named
    try:
        with Trial(memory=room(memory)) as trial:
            refusal = trial.refusal(
                use_case_called(use_case), Folder(named.model_version, named.manifest_sha256, found.files)
            )
    except TrialError as error:
        raise MoveRefusedError(f"{named.model_version} could not be tried, so nothing was changed: {error}") from error
    if refusal is not None:
        raise MoveRefusedError(
            f"no instance could serve {named.model_version}: {refusal}. So nothing was changed: promote another model, "
            "or make one by `lunation retrain --force`"
        )


def promote(
    clients: Clients,
    use_case: str,
    model_version: str,
    reason: str,
    *,
    despite_verdict: bool = False,
    repair: bool = False,
    trial: Try = serves_it,
) -> ModelPromotion:
    """Serve ``model_version``. A canary ends; a shadow stays, unless it is the model that now serves.

    Args:
        repair: replace a pointer that cannot be read, too, by a generation above all that there is a trace of.

    Raises:
        MoveRefusedError: it serves already, no instance could serve it, the gate rejected it, the pointer cannot be
            read, or somebody else moved the pointer meanwhile.
        lunation.model_folder.FolderRefusedError: its folder is not what it should be.
    """
    before, mended = _repaired(clients, use_case) if repair else (_standing(clients, use_case), "")
    if before.pointer is not None and before.pointer.model_version == model_version:
        raise MoveRefusedError(f"{model_version} serves already, since generation {before.pointer.generation}")
    named = _accepted(clients, use_case, model_version, despite_verdict, trial)
    return _move(clients, use_case, before, "PROMOTE", reason + mended, named, _kept_shadow(before, named), None)


def rollback(
    clients: Clients,
    use_case: str,
    reason: str,
    *,
    to: int | None = None,
    broken: query.Tell = query.refuse,
    trial: Try = serves_it,
) -> ModelPromotion:
    """Serve an older model again: that of generation ``to``, or the one before the one that serves.

    A model that was rolled back from is not gone back to: two rollbacks in a row go two models back.

    Args:
        broken: is told of a history row that cannot be read; the others count.

    Raises:
        MoveRefusedError: there is none, no instance could serve it, or somebody else moved the pointer meanwhile.
        lunation.model_folder.FolderRefusedError: its folder is no longer what it was.
        lunation.query.BrokenEntityError: a history row cannot be read, and nobody is there to be told.
    """
    before = _standing(clients, use_case)
    if before.pointer is None:
        raise MoveRefusedError(f"no model of {use_case} has been promoted yet, so there is none to go back to")
    history = query.promotions(clients.datastore, use_case, None, broken)
    older = _generation(history, to) if to is not None else _one_before(history)
    if older.model_version == before.pointer.model_version:
        raise MoveRefusedError(f"generation {older.generation} is {older.model_version}, which serves now")
    found = model_folder.check(clients.storage, models_bucket(clients.target), older.model_version, use_case)
    if found.named.manifest_sha256 != older.manifest_sha256:
        raise MoveRefusedError(
            f"{older.uri}/manifest.json is not the one that served as generation {older.generation}: "
            f"its SHA-256 is {found.named.manifest_sha256}, not {older.manifest_sha256}"
        )
    trial(use_case, found)
    named = NamedModel.model_validate(older.model_dump())
    return _move(clients, use_case, before, "ROLLBACK", reason, named, _kept_shadow(before, named), None)


def shadow(
    clients: Clients, use_case: str, model_version: str | None, reason: str, *, trial: Try = serves_it
) -> ModelPromotion:
    """Score ``model_version`` beside the served model without serving it; None ends that.

    Raises:
        MoveRefusedError: nothing serves yet, it serves itself, no instance could score by it, or somebody else moved
            the pointer meanwhile.
        lunation.model_folder.FolderRefusedError: its folder is not what it should be.
    """
    before, served = _serving(clients, use_case, model_version)
    # A model that the gate rejected may be looked at: nobody gets its answers.
    named = None if model_version is None else _accepted(clients, use_case, model_version, True, trial)
    return _move(clients, use_case, before, "SHADOW", reason, served, named, served.canary)


def canary(
    clients: Clients,
    use_case: str,
    model_version: str | None,
    reason: str,
    *,
    share: float = 0.1,
    despite_verdict: bool = False,
    trial: Try = serves_it,
) -> ModelPromotion:
    """Let ``model_version`` answer ``share`` of the record ids; None ends that.

    Raises:
        MoveRefusedError: nothing serves yet, it serves itself, the gate rejected it, no instance could serve it, or
            somebody else moved the pointer.
        lunation.model_folder.FolderRefusedError: its folder is not what it should be.
    """
    before, served = _serving(clients, use_case, model_version)
    named = None
    if model_version is not None:
        accepted = _accepted(clients, use_case, model_version, despite_verdict, trial)
        named = Canary(**accepted.model_dump(), share=share)
    return _move(clients, use_case, before, "CANARY", reason, served, served.shadow, named)


# --- what a move needs


def _standing(clients: Clients, use_case: str) -> Standing:
    entity, version = _look(clients, use_case)
    if entity is None:
        return Standing(None, 0, 0, None)
    wrong: list[query.Broken] = []
    pointer = query.read(ModelPointer, entity, wrong.append)
    if pointer is None:
        raise MoveRefusedError(
            f"{'; '.join(map(str, wrong))}. Where it stands cannot be told, so nothing was changed: `lunation promote "
            "--repair MODEL_VERSION --reason …` replaces it"
        )
    return Standing(pointer, version, pointer.generation, pointer.model_version)


def _repaired(clients: Clients, use_case: str) -> tuple[Standing, str]:
    """Where the pointer stands, whatever its properties are, and what is to be said of them in the reason."""
    entity, version = _look(clients, use_case)
    history = _last_generation(clients, use_case)
    if entity is None:
        return Standing(None, 0, history, None), ""
    wrong: list[query.Broken] = []
    pointer = query.read(ModelPointer, entity, wrong.append)
    if pointer is not None:
        return Standing(pointer, version, max(pointer.generation, history), pointer.model_version), ""
    # Instances may have seen it, so it counts, if it is a generation at all.
    told = entity.get("generation")
    generation = told if isinstance(told, int) and 0 < told < MOST_GENERATIONS - 1 else 0
    previous = entity.get("model_version")
    return (
        Standing(None, version, max(generation, history), previous if isinstance(previous, str) else None),
        f" (repairs {'; '.join(map(str, wrong))})",
    )


def _look(clients: Clients, use_case: str) -> tuple[datastore.Entity | None, int]:
    """The pointer's entity, and its version."""
    key = clients.datastore.key("ModelPointer", use_case).to_protobuf()
    found = clients.datastore_api.lookup(project_id=clients.project, keys=[key]).found
    return (entity_from_protobuf(found[0].entity), found[0].version) if found else (None, 0)


def _last_generation(clients: Clients, use_case: str) -> int:
    """The highest one that a history row has taken, by the rows' keys: their properties may be anything."""
    client = clients.datastore
    rows = client.query(kind="ModelPromotion")
    rows.keys_only()
    for generation, operator in ((0, ">="), (MOST_GENERATIONS - 1, "<=")):
        rows.key_filter(client.key("ModelPromotion", ModelPromotion.key_name(use_case, generation)), operator)
    names = [str(row.key.name).rpartition(":")[2] for row in rows.fetch()]
    return max((int(name) for name in names if len(name) == 10 and name.isdecimal()), default=0)


def _serving(clients: Clients, use_case: str, model_version: str | None) -> tuple[Standing, ModelPointer]:
    before = _standing(clients, use_case)
    if before.pointer is None:
        raise MoveRefusedError(
            f"no model of {use_case} serves yet, so there is none to compare with: promote one first"
        )
    if before.pointer.model_version == model_version:
        raise MoveRefusedError(f"{model_version} is the model that serves; a candidate is another one")
    return before, before.pointer


def _accepted(clients: Clients, use_case: str, model_version: str, despite_verdict: bool, trial: Try) -> NamedModel:
    found = model_folder.check(clients.storage, models_bucket(clients.target), model_version, use_case)
    if found.manifest.verdict is Verdict.REJECT and not despite_verdict:
        raise MoveRefusedError(
            f"the gate rejected {model_version}: {'; '.join(found.manifest.reasons)}. "
            "To let it answer nevertheless, say --despite-verdict"
        )
    trial(use_case, found)
    return found.named


def _kept_shadow(before: Standing, named: NamedModel) -> NamedModel | None:
    kept = before.pointer.shadow if before.pointer is not None else None
    return None if kept is not None and kept.model_version == named.model_version else kept


def _generation(history: list[ModelPromotion], generation: int) -> ModelPromotion:
    for row in history:
        if row.generation == generation:
            return row
    raise MoveRefusedError(f"there was no generation {generation}; `lunation models` lists them")


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
        raise MoveRefusedError("there is no model before the one that serves; `lunation models` shows the history")
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
        generation=before.generation + 1,
        moved_at=now,
        shadow=shadow,
        canary=canary,
    )
    row = ModelPromotion.model_validate(
        {
            **pointer.model_dump(),
            "previous_version": before.previous_version,
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
        if found is not None and query.read(ModelPromotion, found, lambda _: None) == row:
            return row
        if isinstance(error, FailedPrecondition | AlreadyExists | Aborted):
            if found is not None and _look(clients, use_case)[1] == before.version:
                raise MoveRefusedError(
                    f"ModelPromotion {found.key.name} is there already, and the pointer stands at generation "
                    f"{before.generation}, so nothing was changed: somebody wrote one of the two by hand. `lunation "
                    "promote --repair MODEL_VERSION --reason …` goes on above both"
                ) from error
            raise MoveRefusedError(
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
