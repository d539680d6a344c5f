"""Whether a model's folder is still what the system once said of it.

A manifest vouches for the files beside it. For the manifest itself vouch those who saw it when it was new: the run that
wrote it left its hash in the object's metadata and in ``verdict.json``, and whoever moved the pointer kept it there and
in the history.
"""

from collections.abc import Iterator

from google.api_core.exceptions import NotFound
from google.cloud import storage  # type: ignore[attr-defined]
from pydantic_core import from_json

from lunation import query
from lunation.clients import Clients
from lunation.deploy.names import models_bucket
from schemas import ModelManifest, ModelPointer, ModelPromotion
from schemas.file_hash import hash_mismatch, sha256_of

VERDICT = "verdict.json"


def doubts(clients: Clients, found: ModelManifest, broken: query.Tell) -> list[str]:
    """What speaks against the folder of ``found``, a sentence each; empty if nothing does.

    Args:
        broken: told which entities cannot be asked.
    """
    version = found.model_version
    folder = clients.storage.bucket(models_bucket(clients.target))
    content, kept = _read(folder, version, "manifest.json")
    if content is None:
        return [f"the manifest of {version} is gone"]
    sha256 = sha256_of(content)
    vouchers = [("the object's own metadata", kept), *_moves(clients, found, broken)]
    doubtful = []
    verdict, _ = _read(folder, version, VERDICT)
    if verdict is not None:  # a run of an earlier release wrote none
        named = _named_in(verdict)
        vouchers.append((VERDICT, named))
        if named is None:
            doubtful.append(f"{VERDICT} of {version} cannot be read, so it vouches for nothing")
    doubtful += [
        f"the manifest of {version} is not the one that {who} names: its SHA-256 is {sha256}, not {expected}"
        for who, expected in vouchers
        if expected is not None and expected != sha256
    ]
    for file in (*found.files, *found.evidence):
        listed, _ = _read(folder, version, file.name)
        if listed is None:
            doubtful.append(f"{file.name} of {version}, which its manifest names, is gone")
        elif hash_mismatch(file.name, listed, file.sha256):
            doubtful.append(f"{file.name} of {version} is not the file that its manifest names (SHA-256)")
    return doubtful


def _read(folder: storage.Bucket, version: str, name: str) -> tuple[bytes | None, str | None]:
    """An object of the folder, and the hash that whoever wrote it left in its metadata."""
    blob = folder.blob(f"models/{version}/{name}")
    try:
        content: bytes = blob.download_as_bytes()
        blob.reload()
    except NotFound:
        return None, None
    return content, (blob.metadata or {}).get("sha256")


def _named_in(verdict: bytes) -> str | None:
    """The manifest's hash in ``verdict.json``."""
    try:
        told = from_json(verdict)
    except ValueError:
        return None
    expected = told.get("manifest_sha256") if isinstance(told, dict) else None
    return expected if isinstance(expected, str) else None


def _moves(clients: Clients, found: ModelManifest, broken: query.Tell) -> Iterator[tuple[str, str]]:
    use_case, version = found.use_case, found.model_version
    pointer = query.pointer(clients.datastore, use_case, broken)
    for move in (pointer, *query.promotions_of(clients.datastore, use_case, version, broken)):
        if move is not None:
            yield from _named(move, version)


def _named(move: ModelPointer | ModelPromotion, version: str) -> Iterator[tuple[str, str]]:
    what = "the pointer" if isinstance(move, ModelPointer) else f"generation {move.generation}"
    for role, named in (("", move), (" as its shadow", move.shadow), (" as its canary", move.canary)):
        if named is not None and named.model_version == version:
            yield what + role, named.manifest_sha256
