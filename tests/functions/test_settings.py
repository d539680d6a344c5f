"""The settings of the functions."""

from dataclasses import replace

import pytest

from functions.classify.settings import Settings as Classify
from functions.ingest_fast.settings import Settings as IngestFast
from functions.runtime.settings import SettingsError
from schemas import USE_CASES
from tests.use_cases.parcels import PARCELS

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


def test_a_use_case_that_some_part_could_not_keep_starts_no_function(monkeypatch):
    """What its class declares is told as a mistake of the setting that chooses it."""
    monkeypatch.setitem(USE_CASES, "parcel_delays", replace(PARCELS, name="parcel_delays"))
    with pytest.raises(SettingsError, match=r"USE_CASE is 'parcel_delays': .*expected 1 to 26 of a-z 0-9 -"):
        Classify.read(MINIMAL | {"USE_CASE": "parcel_delays"})


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
