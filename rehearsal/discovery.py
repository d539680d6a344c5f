"""Whether a request is one that Google's API takes, judged by Google's own discovery documents.

A request over REST is judged as it is on the wire, one over gRPC in the REST form of the same method. A method that no
document has is a fault of its own: nothing goes unlooked at but what :data:`OUTSIDE` names, with its reason.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.message import Message

from laptop.surface import Rpc
from rehearsal import masks
from rehearsal.documents import Document, Method, Schema, documents
from rehearsal.transcoding import NoRestFormError, Request, in_rest
from rehearsal.values import Values, camel, resolved

DOCUMENTS: dict[str, tuple[str, ...]] = {
    "pubsub": ("pubsub.v1",),
    "pubsub-schemas": ("pubsub.v1",),
    "datastore": ("datastore.v1",),
    "storage": ("storage.v1",),
    "workflows": ("workflows.v1", "workflowexecutions.v1"),
    "dataproc": ("dataproc.v1",),
    "scheduler": ("cloudscheduler.v1",),
    "functions": ("cloudfunctions.v2", "run.v2"),
    "dataflow": ("dataflow.v1b3",),
    "resourcemanager": ("cloudresourcemanager.v3",),
    "serviceusage": ("serviceusage.v1", "serviceusage.v1beta1"),
    "iam": ("iam.v1",),
    "firestore": ("firestore.v1",),
    "artifactregistry": ("artifactregistry.v1",),
    "cloudbuild": ("cloudbuild.v1",),
    "monitoring": ("monitoring.v3", "monitoring.v1"),
    "logging": ("logging.v2",),
    "cloudbilling": ("cloudbilling.v1",),
    "compute": ("compute.v1",),
    "orgpolicy": ("orgpolicy.v2",),
    "telemetry": (),
}
"""The documents of each service of a stage."""

OUTSIDE = {
    "telemetry.metrics.write": "telemetry.googleapis.com takes OpenTelemetry's protocol, which describes itself; "
    "google-api-python-client ships no document for it",
    "functions.invoke": "a request to a function of ours, whose form docs/openapi/ tells",
}
"""What is noted and held against no document, with the reason."""

# https://docs.cloud.google.com/apis/docs/system-parameters: what the documents leave out of the parameters common to
# all methods. Google's client packages ask for enums as numbers by the value of $alt.
SYSTEM: dict[str, Schema] = {
    "$alt": {"type": "string", "enum": ["json", "media", "proto", "sse", "json;enum-encoding=int"]},
    **{name: {"type": "string"} for name in ("$apiVersion", "$callback", "$fields", "$key", "$prettyPrint",
                                             "$quotaUser", "$userProject", "userProject")},
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Args:
        method: the method that the request means, as ``pubsub.projects.topics.publish``; empty if there is none.
        faults: all that is wrong, each with the method and the place in the request.
    """

    method: str
    faults: tuple[str, ...]


UNJUDGED = Verdict("", ())
"""Of what was not looked at."""


def of_rpc(service: str, rpc: Rpc, message: Message) -> Verdict:
    """Judge a gRPC call.

    Args:
        service: a key of :data:`DOCUMENTS`.
    """
    names = DOCUMENTS.get(service)
    if not names:
        return _without(service)
    try:
        request = in_rest(documents(names), rpc, message)
    except NoRestFormError as error:
        return Verdict("", (f"{rpc.service}.{rpc.name}: {error}",))
    return _verdict(request)


def of_http(service: str, verb: str, path: str, query: str, headers: Mapping[str, str], content: bytes) -> Verdict:
    """Judge a request as it is on the wire.

    Args:
        service: a key of :data:`DOCUMENTS`.
        verb: ``GET`` and so on.
        path: without the host, as it is sent.
        query: what follows the question mark, as it is sent.
    """
    names = DOCUMENTS.get(service)
    if not names:
        return _without(service)
    parameters = tuple(parse_qsl(query, keep_blank_values=True))
    if service == "storage" and any(name == "upload_id" for name, _ in parameters):
        # The rest of a file goes to an address that the service gave out, in as many requests as it takes:
        # https://cloud.google.com/storage/docs/performing-resumable-uploads
        return Verdict("storage.objects.insert", ())
    for one in documents(names):
        found = one.find(verb, path)
        if found is not None:
            method, values = found
            try:
                body = _upload(parameters, headers, content) if method.takes_file_at(path) else _whole(content)
            except ValueError as error:
                return Verdict(method.id, (f"{method.id}: body: it is no JSON: {error}",))
            return _verdict(Request(method, values, parameters, body), wire=True)
    return Verdict("", (f"{verb} {path}: no method is at this path in {' or '.join(names)}",))


def _without(service: str) -> Verdict:
    if service in DOCUMENTS:
        return UNJUDGED
    return Verdict("", (f"{service}: rehearsal/discovery.py does not say which documents it has",))


def _whole(content: bytes) -> Any:
    return json.loads(content) if content else None


def _upload(parameters: Sequence[tuple[str, str]], headers: Mapping[str, str], content: bytes) -> Any:
    """The JSON in an upload: https://cloud.google.com/storage/docs/uploads-downloads.

    Raises:
        ValueError: there is none where it should be.
    """
    kind = dict(parameters).get("uploadType")
    if kind == "resumable":
        return _whole(content)
    if kind != "multipart":
        return None
    head = f"Content-Type: {headers.get('Content-Type', '')}\r\n\r\n".encode()
    end = content.find(b"\r\n--", 2)  # of the first part, which is all that is read
    parts = BytesParser(policy=HTTP).parsebytes(head + content[: end if end > 0 else None] + b"\r\n")
    first = next(iter(parts.iter_parts()), None)
    if first is None:
        raise ValueError("the parts have no metadata before the file")
    metadata = first.get_payload(decode=True)
    assert isinstance(metadata, bytes)  # one part, not parts again
    return _whole(metadata)


def _verdict(request: Request, *, wire: bool = False) -> Verdict:
    method = request.method
    return Verdict(method.id, tuple(f"{method.id}: {one}" for one in _faults(request, wire=wire)))


def _faults(request: Request, *, wire: bool) -> Iterator[str]:
    method = request.method
    document = method.document
    values = Values(method, numbers=wire and document.common)
    for name, value in request.path.items():
        yield from values.text(method.parameters.get(name, {"type": "string"}), value, f"path {name}")
    yield from _query(request, values)
    if method.request is None:
        if request.body is not None:
            yield "body: it takes none"
        return
    schema = document.schemas[method.request]
    yield from values.faults(schema, request.body if request.body is not None else {}, "body")
    yield from _masks(request, schema)


def _query(request: Request, values: Values) -> Iterator[str]:
    method = request.method
    common = method.document.parameters | (SYSTEM if method.document.common else {})
    seen: set[str] = set()
    for name, value in request.query:
        where = f"query {name}"
        known = _parameter(method, name)
        declared = common.get(name) if known is None else method.parameters[known]
        if declared is None or declared.get("location") == "path":
            yield f'{where}: unknown name "{name}": the method has no such parameter'
            continue
        if known in seen and not declared.get("repeated"):
            yield f"{where}: it is there twice"
        seen.add(known or name)
        if name in ("alt", "$alt") and name in common and method.document.common:
            declared = SYSTEM["$alt"]  # it may ask for numbers, too
        yield from values.text(declared, value, where)
        if name in ("fields", "$fields") and known is None and method.response is not None:
            yield from masks.selected(method.document, method.document.schemas[method.response], value, where)
    for name, declared in method.parameters.items():
        if declared.get("required") and name not in request.path and name not in seen:
            yield f"query {name}: it is required"


def _parameter(method: Method, name: str) -> str | None:
    """A parameter of the method by its name, in protobuf's spelling too where Google's common front end takes it."""
    if name in method.parameters:
        return name
    if not method.document.common:
        return None
    other = ".".join(camel(part) for part in name.split("."))
    return other if other in method.parameters else None


def _masks(request: Request, schema: Schema) -> Iterator[str]:
    """The masks of a change, against the resource that is changed: the body, or the resource in it."""
    method = request.method
    for name, value in request.query:
        known = _parameter(method, name)
        if known is not None and method.parameters[known].get("format") == "google-fieldmask":
            yield from masks.changed(method.document, schema, value, f"query {name}")
    if not isinstance(request.body, dict):
        return
    for name, declared in schema.get("properties", {}).items():
        if declared.get("format") == "google-fieldmask" and isinstance(request.body.get(name), str):
            resource = _resource(method.document, schema)
            if resource is not None:
                yield from masks.changed(method.document, resource, request.body[name], f"body.{name}")


def _resource(document: Document, schema: Schema) -> Schema | None:
    """The one resource that a request of an update carries."""
    found = [one for one in schema["properties"].values() if "$ref" in one]
    return resolved(document, found[0]) if len(found) == 1 else None
