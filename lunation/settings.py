"""The settings in ``lunation.toml``, checked before anything is called."""

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
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
from schemas.contract import check_use_case
from schemas.envelope import MAX_MESSAGE_BYTES

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "lunation.toml"


def _names_buckets(project: str) -> str:
    if project.startswith("goog") or "google" in project or "g00gle" in project:
        raise ValueError(
            f"no bucket may be called {project}-archive, as ours is: Cloud Storage keeps names that begin with goog or "
            "have google in them for itself; take another project"
        )
    return project


ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$"), AfterValidator(_names_buckets)]
"""https://cloud.google.com/resource-manager/docs/creating-managing-projects, and a beginning of a bucket's name:
https://cloud.google.com/storage/docs/buckets#naming"""
ServiceAccount = Annotated[
    str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{4,28}[a-z0-9])@[a-z][a-z0-9-]+\.iam\.gserviceaccount\.com$")
]


WEEKLY = re.compile(r"[0-5]?\d ([01]?\d|2[0-3]) \* \* ([0-7]|sun|mon|tue|wed|thu|fri|sat)", re.IGNORECASE)
REGION = re.compile(r"[a-z]+-[a-z]+\d+")
GIB = 1024
MEMORY: dict[float, tuple[int, int]] = {
    0.08: (0, 512),
    0.5: (0, GIB),
    1: (0, 4 * GIB),
    2: (0, 8 * GIB),
    4: (2 * GIB, 16 * GIB),
    6: (4 * GIB, 24 * GIB),
    8: (4 * GIB, 32 * GIB),
}
"""From so many CPUs on: how much memory, in MiB, an instance has at least and at most.
https://cloud.google.com/run/docs/configuring/services/memory-limits"""
MAX_EVALUATION_DAYS = 28
"""A cycle's models are compared on no longer a window, however long the cycle is: more would keep the newest data from
the training, and is not needed to be certain."""


def _weekly(cron: str) -> str:
    if not WEEKLY.fullmatch(cron):
        raise ValueError(
            f"{cron!r} does not fire once a week: write a minute, an hour, * * and a day of the week, such as "
            "0 3 * * 1; which of these weeks have a cycle is cycle_weeks"
        )
    return cron


def _region(region: str) -> str:
    if not REGION.fullmatch(region):
        raise ValueError(f"{region!r} is no region, such as us-central1 (a zone or a multi-region is none)")
    return region


class SettingsError(Exception):
    """``lunation.toml`` or an override cannot be used; the text lists every mistake."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Schedule(_Table):
    """When a cycle starts."""

    cron: Annotated[str, AfterValidator(_weekly)] = "0 3 * * 1"
    """Unix cron in UTC. It must fire once a week: the workflow counts weeks."""
    cycle_weeks: int = Field(default=4, ge=1, le=52)
    """A cycle is due every so many weeks; a week that was missed, or failed, is made up for in the next."""
    first_cycle: date | None = None
    """A day in the week of the first cycle. None: the week of the first deployment."""

    @property
    def cycle_days(self) -> int:
        """The same in days."""
        return 7 * self.cycle_weeks

    @property
    def evaluation_days(self) -> int:
        """How long the window is on which a cycle's models are compared: the cycle, and at most
        :data:`MAX_EVALUATION_DAYS`."""
        return min(self.cycle_days, MAX_EVALUATION_DAYS)


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
        cpu = float(self.cpu)
        if not 0.08 <= cpu <= 1 and cpu not in MEMORY:
            raise ValueError(f"cpu {self.cpu} is none of 1, 2, 4, 6, 8, and not 0.08 to 1")
        # https://cloud.google.com/run/docs/configuring/services/cpu
        if cpu < 1 and self.concurrency > 1:
            raise ValueError(f"cpu {self.cpu} is less than one, which takes concurrency 1, not {self.concurrency}")
        least, most = MEMORY[max(bound for bound in MEMORY if bound <= cpu)]
        if not least <= self.memory_mib <= most:
            raise ValueError(f"cpu {self.cpu} goes with {least} to {most} MiB of memory, not {self.memory}")
        return self

    @property
    def memory_mib(self) -> int:
        """Its memory in MiB."""
        return int(self.memory[:-2]) * (GIB if self.memory.endswith("Gi") else 1)


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
    record_bytes: int = Field(default=1000, ge=1, le=MAX_MESSAGE_BYTES)
    labels_per_day: int = Field(default=1_000_000, ge=0)
    training_hours: float = Field(default=1.0, ge=0, le=24)


class Target(_Table):
    """A project to deploy to.

    Every table of settings may be given for a target, too, in whole or in part: what ``[targets.T.functions.classify]``
    says wins, for T, over ``[functions.classify]``, field by field (:meth:`Settings.of`).
    """

    project: ProjectId
    region: Annotated[str, AfterValidator(_region)] = "us-central1"
    endpoints: Path | None = None
    """A file that maps services to addresses, for a project that is not at Google's. None: Google's own endpoints."""
    sample: bool = False
    """True while ``project`` is only an example. ``plan`` then shows, offline, what an empty project would get; nothing
    is ever sent to Google."""
    impersonate: ServiceAccount | None = None
    """Deploy as this service account, with short-lived tokens of one's own credentials. There are no key files."""
    schedule: dict[str, Any] = Field(default_factory=dict)
    archive: dict[str, Any] = Field(default_factory=dict)
    records: dict[str, Any] = Field(default_factory=dict)
    checks: dict[str, Any] = Field(default_factory=dict)
    quality: dict[str, Any] = Field(default_factory=dict)
    functions: dict[str, Any] = Field(default_factory=dict)
    monitoring: dict[str, Any] = Field(default_factory=dict)
    volumes: dict[str, Any] = Field(default_factory=dict)

    @property
    def own_tables(self) -> dict[str, dict[str, Any]]:
        """What it has in place of the common settings, by table."""
        return {name: value for name, value in self if name in TABLES and value}

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
        except ValueError as error:
            raise SettingsError(
                f"{self.endpoints} cannot be read: {error}. The servers write it: end them, delete it, and start them "
                "with `nox -s up`"
            ) from None
        return found


TABLES = ("schedule", "archive", "records", "checks", "quality", "functions", "monitoring", "volumes")
"""Of settings, which a target may have of its own."""


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
        check_use_case(USE_CASES[name])  # its mistakes are mistakes of the settings that choose it
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
            for table, own in target.own_tables.items():
                try:
                    if table in given.data:  # else it is a mistake of its own
                        _over(given.data[table], own)
                except ValidationError as error:
                    mistakes += [f"targets.{name}.{table}.{place}" for place in _places(error)]
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

    def of(self, target: Target) -> "Settings":
        """These settings as they are for ``target``: its own tables over the common ones, field by field."""
        return self.model_copy(
            update={table: _over(getattr(self, table), own) for table, own in target.own_tables.items()}
        )


def _over(table: BaseModel, own: Mapping[str, Any]) -> BaseModel:
    """``table`` with what ``own`` says in its place, field by field.

    Raises:
        ValidationError: that cannot be.
    """

    def merged(common: Mapping[str, Any], wins: Mapping[str, Any]) -> dict[str, Any]:
        both = {
            name: merged(common[name], value)
            for name, value in wins.items()
            if isinstance(value, dict) and isinstance(common.get(name), dict)
        }
        return {**common, **wins, **both}

    return type(table).model_validate(merged(table.model_dump(), own))


def _places(error: ValidationError) -> list[str]:
    """Every mistake, each with its place."""
    return [
        f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
        for problem in error.errors()
    ]


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
        lines = "\n  ".join(_places(error))
        raise SettingsError(f"{file or FILE.name} cannot be used:\n  {lines}") from error
    except ValueError as error:  # the TOML itself
        raise SettingsError(f"{file or FILE.name} cannot be read: {error}") from error
