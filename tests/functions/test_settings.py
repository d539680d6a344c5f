"""The settings of the functions."""

import pytest

from functions.classify.settings import Settings as Classify
from functions.ingest_fast.settings import Settings as IngestFast
from functions.runtime.settings import SettingsError

MINIMAL = {"PROJECT": "local-dev", "MODELS_BUCKET": "local-dev-models"}


def test_the_defaults_are_those_of_the_cloud():
    """Only the project and the bucket have to be named; the endpoints are Google's."""
    settings = Classify.read(MINIMAL)
    assert settings.use_case == "flights"
    assert settings.datastore_endpoint == "https://datastore.googleapis.com"
    assert settings.pubsub_endpoint == "https://pubsub.googleapis.com"
    assert (settings.dead_letter_topic, settings.classifications_topic) == ("dead-letters", "classifications")
    assert settings.comparisons_topic == "comparisons"
    assert IngestFast.read({"PROJECT": "p", "RECORD_TTL_DAYS": "7"}).record_ttl_days == 7


@pytest.mark.parametrize(
    ("unit", "variables", "words"),
    [
        (Classify, {"PROJECT": "p"}, "environment variable MODELS_BUCKET is not set"),
        (Classify, {"MODELS_BUCKET": "bucket"}, "environment variable PROJECT is not set"),
        (Classify, {"PROJECT": "", "MODELS_BUCKET": "bucket"}, "environment variable PROJECT is not set"),
        (Classify, MINIMAL | {"USE_CASE": "trains"}, "USE_CASE is 'trains': .*there are: flights"),
        (Classify, MINIMAL | {"DATASTORE_ENDPOINT": "localhost:80"}, "DATASTORE_ENDPOINT is .*expected a URL"),
        (Classify, MINIMAL | {"PUBSUB_ENDPOINT": "http://h/path"}, "PUBSUB_ENDPOINT is .*without a path"),
        (Classify, MINIMAL | {"DEAD_LETTER_TOPIC": "a/b"}, "DEAD_LETTER_TOPIC is 'a/b'"),
        (IngestFast, {"PROJECT": "p", "RECORD_TTL_DAYS": "soon"}, "RECORD_TTL_DAYS is 'soon': .*integer"),
        (IngestFast, {"PROJECT": "p", "RECORD_TTL_DAYS": "0"}, "RECORD_TTL_DAYS is '0'"),
    ],
)
def test_a_bad_setting_names_its_variable_and_what_is_expected(unit, variables, words):
    """Whoever deploys reads which variable to mend."""
    with pytest.raises(SettingsError, match=words):
        unit.read(variables)
