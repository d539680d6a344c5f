"""The settings in ``lunation.toml``, checked before anything is called."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas import USE_CASES
from schemas.check_limits import CheckLimits

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "lunation.toml"

ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
"""https://cloud.google.com/resource-manager/docs/creating-managing-projects"""
ServiceAccount = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{4,28}[a-z0-9])@[a-z][a-z0-9-]+\.iam\.gserviceaccount\.com$")
]


class SettingsError(Exception):
    """``lunation.toml`` or an override cannot be used; the text lists every mistake."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Schedule(_Table):
    """When a cycle starts."""

    cron: Annotated[str, StringConstraints(pattern=r"^\S+ \S+ \S+ \S+ \S+$")] = "0 3 * * 1"
    """Unix cron in UTC. It must fire once a week: the workflow counts weeks."""
    first_cycle: date | None = None
    """A day in the week of the first cycle. None: the week of the first deployment."""


class Archive(_Table):
    """How records are filed."""

    window_seconds: int = Field(default=60, ge=1, le=3600)
    max_workers: int = Field(default=3, ge=1, le=1000)
    """Dataflow starts with one and adds others while messages wait."""


class Records(_Table):
    """The fast copies in Datastore."""

    ttl_days: int = Field(default=90, ge=1, le=3650)


class QualityBounds(_Table):
    """How far live answers may be from what the gate measured, before a training is due early."""

    min_labels: int = Field(default=500, ge=50)
    """Outcomes of the serving model's answers that are needed to judge them."""
    auc_drop: float = Field(default=0.03, ge=0, le=1)
    log_loss_rise: float = Field(default=0.05, ge=0)
    calibration_gap: float = Field(default=0.1, ge=0, le=1)
    """Between what was said and what came true, on average."""
    drift_index: float = Field(default=0.25, gt=0)
    """Population stability index of an input that is not declared to drift."""


class FunctionSize(_Table):
    """What one function may use, and what it costs when nobody calls it (``min_instances``)."""

    memory: Annotated[str, StringConstraints(pattern=r"^\d+(Mi|Gi)$")] = "512Mi"
    cpu: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")] = "1"
    min_instances: int = Field(default=0, ge=0, le=1000)
    max_instances: int = Field(default=20, ge=1, le=1000)
    concurrency: int = Field(default=80, ge=1, le=1000)
    timeout_seconds: int = Field(default=60, ge=1, le=540)
    """A push is acknowledged within the subscription's deadline or sent again, so more than that is wasted."""

    @model_validator(mode="after")
    def _bounds(self) -> "FunctionSize":
        if self.min_instances > self.max_instances:
            raise ValueError(f"min_instances {self.min_instances} is above max_instances {self.max_instances}")
        return self


class Functions(_Table):
    """A size for each function."""

    ingest_fast: FunctionSize = FunctionSize()
    classify: FunctionSize = FunctionSize()
    submit: FunctionSize = FunctionSize()


class Monitoring(_Table):
    """When somebody is told."""

    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")] | None = None
    """Who gets the alerts. None: alerts are only seen in the console."""
    oldest_message_minutes: int = Field(default=10, ge=1, le=10080)
    """A message that waits longer in a subscription raises an alert."""
    archive_lag_minutes: int = Field(default=10, ge=1, le=10080)
    """The archive job's data is older than that."""


class Volumes(_Table):
    """What is expected to come in. Only the cost estimate reads it."""

    records_per_day: int = Field(default=1_000_000, ge=0)
    record_bytes: int = Field(default=1000, ge=1, le=10_000_000)
    labels_per_day: int = Field(default=1_000_000, ge=0)
    training_hours: float = Field(default=1.0, ge=0, le=24)


class Target(_Table):
    """A project to deploy to."""

    project: ProjectId
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z]+\d+$")] = "us-central1"
    endpoints: Path | None = None
    """A file that maps services to addresses, for a project that is not at Google's. None: Google's own endpoints."""
    sample: bool = False
    """True while ``project`` is only an example. ``plan`` then shows, offline, what an empty project would get; nothing
    is ever sent to Google."""
    impersonate: ServiceAccount | None = None
    """Deploy as this service account, with short-lived tokens of one's own credentials. There are no key files."""

    @model_validator(mode="after")
    def _one_place(self) -> "Target":
        if self.endpoints is not None and (self.sample or self.impersonate):
            raise ValueError("endpoints: a project on this machine is no sample and has nobody to impersonate")
        return self

    @property
    def at_google(self) -> bool:
        """Whether this is a project of one's own at Google's."""
        return self.endpoints is None and not self.sample

    @property
    def location(self) -> str:
        """``projects/P/locations/L``."""
        return f"projects/{self.project}/locations/{self.region}"

    def serves(self, service: str) -> bool:
        """Whether the target has this service. A project at Google's has all; a laptop has what its file names."""
        return self.endpoints is None or service in self.addresses()

    def addresses(self) -> dict[str, dict[str, str]]:
        """Service to ``{"http": URL, "grpc": "host:port"}``; empty if the services are at Google's.

        Raises:
            SettingsError: the servers have never been started.
        """
        if self.endpoints is None:
            return {}
        path = ROOT / self.endpoints
        try:
            found: dict[str, dict[str, str]] = json.loads(path.read_text())
        except FileNotFoundError:
            raise SettingsError(f"{self.endpoints} is not there: start the servers first, with `nox -s up`") from None
        return found


class Settings(BaseSettings):
    """All settings; the targets by name."""

    model_config = SettingsConfigDict(toml_file=FILE, env_prefix="LUNATION_", env_nested_delimiter="__", extra="forbid")

    default_target: str = "laptop"
    use_case: str = "flights"
    schedule: Schedule = Schedule()
    archive: Archive = Archive()
    records: Records = Records()
    checks: CheckLimits = CheckLimits()
    quality: QualityBounds = QualityBounds()
    functions: Functions = Functions()
    monitoring: Monitoring = Monitoring()
    volumes: Volumes = Volumes()
    targets: dict[str, Target] = Field(default_factory=dict, validate_default=True)

    # On the fields and not on the whole, which is only looked at when every field is in order: all mistakes are told.
    @field_validator("use_case")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in USE_CASES:
            raise ValueError(f"{name!r} is none of {', '.join(sorted(USE_CASES))}")
        return name

    @field_validator("targets")
    @classmethod
    def _named_and_apart(cls, targets: dict[str, Target], given: ValidationInfo) -> dict[str, Target]:
        mistakes = []
        if given.data.get("default_target") not in targets:
            mistakes.append(f"default_target: there is no [targets.{given.data.get('default_target')}]")
        projects: dict[str, str] = {}
        for name, target in targets.items():
            other = projects.setdefault(target.project, name)
            if other != name:
                mistakes.append(f"targets.{name}.project: {target.project} is already the project of {other}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return targets

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def target(self, name: str | None = None) -> Target:
        """The target called ``name``, or the default one.

        Raises:
            SettingsError: there is no such target.
        """
        chosen = name or self.default_target
        if chosen not in self.targets:
            known = ", ".join(sorted(self.targets)) or "none"
            raise SettingsError(f"no target {chosen!r} in lunation.toml; there are: {known}")
        return self.targets[chosen]


def load(file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        file: another file than the repository's ``lunation.toml``.
        overrides: top-level settings that win over the file.

    Raises:
        SettingsError: every mistake, each with its place.
    """

    class _Settings(Settings):
        model_config = SettingsConfigDict(toml_file=file or FILE)

    try:
        return _Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError(f"{file or FILE.name} cannot be used:\n" + "\n".join(lines)) from error
    except ValueError as error:  # the TOML itself
        raise SettingsError(f"{file or FILE.name} cannot be read: {error}") from error
