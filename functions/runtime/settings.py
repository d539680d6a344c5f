"""Settings of a function: environment variables that its entry file reads once."""

from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from schemas import USE_CASES
from schemas.contract import check_use_case


class SettingsError(ValueError):
    """The environment is invalid. The text names each variable, what is wrong and what is expected."""


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("expected a URL without a path, such as https://datastore.googleapis.com")
    return text.rstrip("/")


def _use_case(name: str) -> str:
    if name not in USE_CASES:
        raise ValueError(f"no such use case; there are: {', '.join(sorted(USE_CASES))}")
    check_use_case(USE_CASES[name])
    return name


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""A service's URL: ``https://host`` for TLS with Google's default credentials, ``http://host:port`` for plaintext."""
Topic = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$")]
"""The short name of a Pub/Sub topic."""


class Settings(BaseModel):
    """The settings of every function. The environment variable of a field is its name in upper case."""

    model_config = ConfigDict(frozen=True)

    project: str = Field(min_length=1)
    use_case: Annotated[str, AfterValidator(_use_case)] = "flights"
    datastore_endpoint: Endpoint = "https://datastore.googleapis.com"
    pubsub_endpoint: Endpoint = "https://pubsub.googleapis.com"
    dead_letter_topic: Topic = "dead-letters"
    records_topic: Topic = "records"
    """The topic that pushed messages come from; their dead letters name it."""
    otel_exporter_otlp_metrics_endpoint: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    """The endpoint for metrics, under OpenTelemetry's own name. If empty, metrics are not exported."""
    otel_metric_export_interval: int = Field(default=60_000, ge=100)
    """Interval, in milliseconds, between exports of metrics."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings from ``environment`` (``os.environ``).

        Raises:
            SettingsError: a variable is missing or has an invalid value.
        """
        given = {name: environment[name.upper()] for name in cls.model_fields if environment.get(name.upper())}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            lines = []
            for item in error.errors(include_url=False):
                variable = str(item["loc"][0]).upper()
                wrong = "is not set" if item["type"] == "missing" else f"is {item['input']!r}: {item['msg']}"
                lines.append(f"environment variable {variable} {wrong}")
            raise SettingsError("; ".join(lines)) from None
