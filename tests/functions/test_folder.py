"""Reading a model's folder through Google's storage client."""

import pytest

from functions.classify.folder import Folders
from functions.classify.model import ModelRefusedError, load_model
from schemas import use_case
from tests.functions.doubles import models
from tests.functions.doubles.bucket import Bucket

CASE = use_case("flights")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    """A bucket that Google's client finds by its standard variable."""
    with Bucket().serving() as served:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
        yield served


def test_a_model_is_read_from_its_folder(bucket):
    """Each file once, and what comes out is the verified model."""
    files = models.folder(CASE, bias=0.25)
    pointer = models.pointer(files, 1)
    for name, content in files.items():
        bucket.files[f"local-dev-models/models/{pointer.model_version}/{name}"] = content
    read = Folders("local-dev", "local-dev-models").reader(pointer)
    model = load_model(CASE, pointer.model_version, pointer.manifest_sha256, read)
    assert model.probability(CASE.features.model_validate(models.FEATURES)) == 0.25
    objects = [key for key in bucket.reads if not key.endswith("/")]  # the client also looks at the bucket itself
    assert len(objects) == len(set(objects)) == 3


def test_a_missing_file_refuses_the_model(bucket):
    """The text names the object."""
    pointer = models.pointer(models.folder(CASE), 1)
    read = Folders("local-dev", "local-dev-models").reader(pointer)
    with pytest.raises(ModelRefusedError, match=rf"there is no {pointer.uri}/manifest\.json"):
        read("manifest.json")


@pytest.mark.parametrize(
    "uri", ["gs://other-bucket/models/x/y", "gs://local-dev-models-evil/models/x", "file:///etc", "../x"]
)
def test_a_pointer_to_another_bucket_refuses_the_model(bucket, uri):
    """Whoever can write the pointer cannot make the function read from anywhere."""
    pointer = models.pointer(models.folder(CASE), 1).model_copy(update={"uri": uri})
    with pytest.raises(ModelRefusedError, match="models are served from gs://local-dev-models/ only"):
        Folders("local-dev", "local-dev-models").reader(pointer)
    assert bucket.reads == []
