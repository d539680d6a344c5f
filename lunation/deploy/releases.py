"""Releases: the set of artefacts that was deployed together, by its hash. Their bytes stay in the build bucket."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound

from lunation.clients import Clients
from lunation.deploy import artefacts
from lunation.deploy.artefacts import Artefact, Artefacts

PREFIX = "releases/"


class NoSuchReleaseError(ValueError):
    """There is no release of that id, or its artefacts are not what they were; the text says which."""


@dataclass(frozen=True)
class Release:
    """One of them.

    Args:
        artefacts: what it ships.
        image: the archive pipeline's image in the project that it comes from, if it comes from another one.
    """

    artefacts: Artefacts
    image: str | None = None

    @property
    def id(self) -> str:
        """Twelve digits of the hash over the artefacts' hashes: equal sources, equal id."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    @property
    def object_name(self) -> str:
        """Where its list lies in the build bucket."""
        return f"{PREFIX}{self.id}.json"

    def to_bytes(self) -> bytes:
        """The list: each artefact by its part, its object and its hash."""
        return json.dumps(_listed(self.artefacts), indent=1, sort_keys=True).encode() + b"\n"


@dataclass(frozen=True)
class Known:
    """A release in a build bucket.

    Args:
        id: its id.
        deployed_at: when it was first deployed to that project.
        runs: which deployed things run it, or a part of it, now.
    """

    id: str
    deployed_at: datetime
    runs: tuple[str, ...]


def staged() -> Release:
    """The release that the sources make now."""
    return Release(artefacts.stage())


def known(clients: Clients, bucket: str) -> Iterator[Known]:
    """The releases of a project, newest first, each with what runs it now."""
    running = _running(clients)
    found = []
    for blob in clients.storage.list_blobs(bucket, prefix=PREFIX):
        listed = _read(f"gs://{bucket}/{blob.name}", blob.download_as_bytes())
        labels = {one["sha256"][:12] for one in _entries(listed)}
        runs = tuple(sorted(name for name, source in running.items() if source in labels))
        found.append(Known(Path(blob.name).stem, blob.time_created, runs))
    yield from sorted(found, key=lambda one: one.deployed_at, reverse=True)


def fetch(clients: Clients, bucket: str, release_id: str, image: str | None = None) -> Release:
    """The release ``release_id`` from a build bucket, its artefacts checked and laid under ``build/``.

    Args:
        image: of the archive pipeline, in the project of that bucket; None if it is the same project.

    Raises:
        NoSuchReleaseError: it is not there or no list, or an artefact is missing or has another hash.
    """
    try:
        content = clients.storage.bucket(bucket).blob(f"{PREFIX}{release_id}.json").download_as_bytes()
    except NotFound:
        ids = ", ".join(one.id for one in known(clients, bucket)) or "none"
        raise NoSuchReleaseError(f"there is no release {release_id} in gs://{bucket}; there are: {ids}") from None
    listed = _read(f"gs://{bucket}/{PREFIX}{release_id}.json", content)
    folder = artefacts.BUILD / "releases" / release_id

    def fetched(entry: dict[str, Any]) -> Artefact:
        try:
            data = clients.storage.bucket(bucket).blob(entry["object"]).download_as_bytes()
        except NotFound:
            raise NoSuchReleaseError(f"release {release_id}: gs://{bucket}/{entry['object']} is gone") from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise NoSuchReleaseError(f"release {release_id}: gs://{bucket}/{entry['object']} is not what was deployed")
        path = folder / entry["object"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Artefact(path, entry["object"], entry["sha256"])

    release = Release(
        Artefacts(
            functions={unit: fetched(entry) for unit, entry in listed["functions"].items()},
            dataflow=fetched(listed["dataflow"]),
            spark=[fetched(entry) for entry in listed["spark"]],
            template=fetched(listed["template"]),
            workflow=fetched(listed["workflow"]),
        ),
        image,
    )
    if release.id != release_id:
        raise NoSuchReleaseError(f"release {release_id}: its list is not what was deployed")
    return release


def _listed(artefacts: Artefacts) -> dict[str, Any]:
    return {
        "functions": {unit: _entry(one) for unit, one in artefacts.functions.items()},
        "dataflow": _entry(artefacts.dataflow),
        "spark": [_entry(one) for one in artefacts.spark],
        "template": _entry(artefacts.template),
        "workflow": _entry(artefacts.workflow),
    }


def _entry(artefact: Artefact) -> dict[str, Any]:
    return {
        "object": artefact.object_name,
        "sha256": artefact.sha256,
        "bytes": artefact.path.stat().st_size,
    }


def _read(uri: str, content: bytes) -> dict[str, Any]:
    try:
        listed: dict[str, Any] = json.loads(content)
        if all(isinstance(one["sha256"], str) and isinstance(one["object"], str) for one in _entries(listed)):
            return listed
        problem = "an artefact without its object or hash"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise NoSuchReleaseError(
        f"{uri} is no list of a release ({problem}): delete it, or restore the bucket's older version"
    )


def _entries(listed: dict[str, Any]) -> list[dict[str, Any]]:
    return [*listed["functions"].values(), listed["dataflow"], *listed["spark"], listed["template"], listed["workflow"]]


def _running(clients: Clients) -> dict[str, str]:
    """The label ``source`` of everything deployed that has one, by address."""
    from lunation.deploy.dataflow import running_jobs

    parent = f"projects/{clients.project}/regions/{clients.target.region}"
    found = {
        **{f"function/{one.name}": one for one in clients.functions.list_functions(parent=clients.location)},
        **{f"dataflow-job/{one.name}": one for one in running_jobs(clients)},
        **{
            f"workflow-template/{one.id}": one
            for one in clients.workflow_templates.list_workflow_templates(parent=parent)
        },
        **{f"workflow/{one.name}": one for one in clients.workflows.list_workflows(parent=clients.location)},
    }
    return {
        f"{address.partition('/')[0]}/{address.rsplit('/', 1)[1]}": one.labels.get("source", "")
        for address, one in found.items()
    }
