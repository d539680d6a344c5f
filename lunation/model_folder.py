"""A model's folder in the models bucket, checked before anything points to it."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.cloud import storage  # type: ignore[attr-defined]
from pydantic import ValidationError

from schemas import ModelManifest, NamedModel
from schemas.dead_letter import explain
from schemas.file_hash import hash_mismatch, sha256_of


class FolderRefusedError(ValueError):
    """The folder holds no model that may be named; the text says what is wrong and where."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose files are what its manifest says."""

    named: NamedModel
    manifest: ModelManifest
    files: Mapping[str, bytes]
    """The manifest and all that it lists as needed to serve."""


def check(client: storage.Client, bucket: str, model_version: str, use_case: str) -> ModelFolder:
    """Read the folder of ``model_version`` and compare each file with its hash.

    Raises:
        FolderRefusedError: no manifest, one that cannot be read or is of another model, or a file that does not fit.
    """
    uri = f"gs://{bucket}/models/{model_version}"

    def read(name: str) -> bytes:
        try:
            return client.bucket(bucket).blob(f"models/{model_version}/{name}").download_as_bytes()
        except NotFound:
            raise FolderRefusedError(f"there is no {uri}/{name}; `lunation runs` lists the models") from None

    content = read("manifest.json")
    try:
        manifest = ModelManifest.model_validate_json(content)
    except ValidationError as error:
        raise FolderRefusedError(f"{uri}/manifest.json cannot be read: {explain(error)}") from None
    if manifest.use_case != use_case:
        raise FolderRefusedError(f"{uri} holds a model for use case {manifest.use_case}, not {use_case}")
    if manifest.model_version != model_version:
        raise FolderRefusedError(f"{uri} holds model {manifest.model_version}, not {model_version}")
    files = {"manifest.json": content} | {file.name: read(file.name) for file in manifest.files}
    for file in manifest.files:
        if mismatch := hash_mismatch(f"{uri}/{file.name}", files[file.name], file.sha256):
            raise FolderRefusedError(f"{mismatch}, as its manifest says")
    sha256 = sha256_of(content)
    return ModelFolder(NamedModel(model_version=model_version, uri=uri, manifest_sha256=sha256), manifest, files)
