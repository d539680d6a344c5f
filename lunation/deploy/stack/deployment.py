"""What the rows of one deployment are made of."""

from dataclasses import dataclass
from typing import Any

from lunation.clients import Clients
from lunation.deploy.accounts import account
from lunation.deploy.functions import Function
from lunation.deploy.images import Repository
from lunation.deploy.names import REPOSITORY, archive_bucket, build_bucket, models_bucket
from lunation.deploy.releases import Release
from lunation.deploy.stack.grants import Grants
from lunation.settings import FunctionSize, Settings, Target


@dataclass(frozen=True)
class Deployment:
    """A release, on its way to a target.

    Args:
        settings: as they are for the target.
        target: where it goes.
        release: what is shipped.
        grants: what the units may do there.
    """

    settings: Settings
    target: Target
    release: Release
    grants: Grants

    @property
    def archive_bucket(self) -> str:
        """The bucket with every record and label."""
        return archive_bucket(self.target)

    @property
    def models_bucket(self) -> str:
        """The bucket with the models."""
        return models_bucket(self.target)

    @property
    def build_bucket(self) -> str:
        """The bucket with what is shipped."""
        return build_bucket(self.target)

    def runs_as(self, unit: str) -> str:
        """The e-mail address of the unit's service account."""
        return account(self.target.project, unit)

    def metrics_endpoint(self, clients: Clients) -> str:
        """Where metrics go. A laptop has no such service, so nowhere."""
        return f"{clients.url('telemetry')}/v1/metrics" if self.target.serves("telemetry") else ""

    def function_environment(self, clients: Clients) -> dict[str, str]:
        """The variables that every function has."""
        endpoint = self.metrics_endpoint(clients)
        return {
            "PROJECT": self.target.project,
            "USE_CASE": self.settings.use_case,
            "DATASTORE_ENDPOINT": clients.grpc_url("datastore"),
            "PUBSUB_ENDPOINT": clients.grpc_url("pubsub"),
            # Undeclared, the service adds it as "true", which every plan would show; our lines have the trace already.
            "LOG_EXECUTION_ID": "false",
            **({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint} if endpoint else {}),
        }

    def function(self, unit: str, *, entry_point: str, folder: str, size: FunctionSize, **more: Any) -> Function:
        """The function that is named for ``unit`` and runs as it.

        Args:
            unit: whose it is.
            entry_point: the Python function in ``main.py``.
            folder: the one below ``functions/`` that is its source.
            size: what it may use.
            more: arguments of :class:`Function` that say how it differs from the others.
        """
        return Function(
            unit,
            entry_point=entry_point,
            source=self.release.artefacts.functions[folder],
            bucket=self.build_bucket,
            size=size,
            service_account=self.runs_as(unit),
            build_account=self.runs_as("build"),
            repository=Repository(REPOSITORY).path(self.target),
            **more,
        )
