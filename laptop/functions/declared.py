"""What a function's declaration may say here, and what it means when it says nothing."""

import re
from typing import Any

from google.cloud.functions_v2 import types

from laptop.errors import ServiceError, invalid
from laptop.functions.source import RUNTIME

Function = types.Function.pb()
ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_TIMEOUT_SECONDS = 3600
MAX_CONCURRENCY = 1000
MAX_INSTANCES_HERE = 8
RESERVED = {
    "PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION", "FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE",
    # Not in the documentation's list; whether the service takes it, ignores it or refuses it is nowhere said.
    "CLOUD_RUN_TIMEOUT_SECONDS",
}  # fmt: skip
"""https://cloud.google.com/run/docs/configuring/services/overview-environment-variables, and one more."""
READ_ONLY = ("state", "update_time", "create_time", "state_messages", "url", "environment", "satisfies_pzs")
WRITABLE = {"description", "build_config", "service_config", "labels"}


def complete(function: Any) -> None:
    """Fill in defaults and refuse what cannot be honoured.

    Raises:
        ServiceError: INVALID_ARGUMENT, or UNIMPLEMENTED for what this server cannot do.
    """
    for name in READ_ONLY:
        function.ClearField(name)
    function.environment = types.Environment.GEN_2
    _build_config(function.build_config)
    _service_config(function.service_config)
    if function.HasField("event_trigger"):
        raise ServiceError(
            "UNIMPLEMENTED",
            "event_trigger: there is no Eventarc here; make a push subscription to the function's URL, with an "
            "OIDC token",
        )


def _build_config(build: Any) -> None:
    if build.runtime != RUNTIME:
        raise invalid(
            f"build_config.runtime is {build.runtime or 'not set'}: this machine runs {RUNTIME} only, the Python that "
            "the whole system uses"
        )
    if not build.entry_point.isidentifier():
        raise invalid(f"build_config.entry_point: {build.entry_point!r} is no name of a Python function")
    if not build.source.HasField("storage_source"):
        raise ServiceError(
            "UNIMPLEMENTED", "build_config.source: name a storage_source, a zip; repositories are not built here"
        )
    if not (build.source.storage_source.bucket and build.source.storage_source.object_):
        raise invalid("build_config.source.storage_source: bucket and object are required")


def _service_config(service: Any) -> None:
    if service.secret_environment_variables or service.secret_volumes:
        raise ServiceError("UNIMPLEMENTED", "service_config: there is no Secret Manager here; secrets are refused")
    for name in service.environment_variables:
        if name in RESERVED or name.startswith("X_GOOGLE_"):
            raise invalid(f"service_config.environment_variables: {name} is set by the platform")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise invalid(f"service_config.environment_variables: {name!r} is no name of a variable")
    # https://cloud.google.com/functions/docs/release-notes#June_18_2024: on, unless it is declared.
    if "LOG_EXECUTION_ID" not in service.environment_variables:
        service.environment_variables["LOG_EXECUTION_ID"] = "true"
    service.timeout_seconds = service.timeout_seconds or 60
    service.max_instance_count = service.max_instance_count or 100
    service.max_instance_request_concurrency = service.max_instance_request_concurrency or 1
    service.available_memory = service.available_memory or "256M"
    service.available_cpu = service.available_cpu or "0.1666"
    service.ingress_settings = service.ingress_settings or types.ServiceConfig.IngressSettings.ALLOW_ALL
    service.all_traffic_on_latest_revision = True
    if not 1 <= service.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        raise invalid(f"service_config.timeout_seconds: 1 to {MAX_TIMEOUT_SECONDS}, not {service.timeout_seconds}")
    if not 1 <= service.max_instance_request_concurrency <= MAX_CONCURRENCY:
        raise invalid(f"service_config.max_instance_request_concurrency: 1 to {MAX_CONCURRENCY}")
    if not 0 <= service.min_instance_count <= service.max_instance_count:
        raise invalid("service_config: min_instance_count lies between 0 and max_instance_count")
    if service.min_instance_count > MAX_INSTANCES_HERE:
        raise invalid(f"service_config.min_instance_count: one machine runs at most {MAX_INSTANCES_HERE} instances")


def merge(current: Any, wanted: Any, paths: list[str]) -> Any:
    """``current`` with the fields ``paths`` of ``wanted``; without paths, all that ``wanted`` fills.

    Raises:
        ServiceError: INVALID_ARGUMENT for a path that is no field or cannot be changed.
    """
    merged = Function()
    merged.CopyFrom(current)
    paths = paths or [field.name for field, _ in wanted.ListFields() if field.name in WRITABLE]
    for path in paths:
        source, target = wanted, merged
        *parents, last = path.split(".")
        if path.split(".", maxsplit=1)[0] not in WRITABLE:
            raise invalid(f"update_mask: {path} cannot be changed")
        for name in parents:
            descriptor = source.DESCRIPTOR.fields_by_name.get(name)
            if descriptor is None or descriptor.message_type is None or descriptor.is_repeated:
                raise invalid(f"update_mask: {path}: {name} has no fields")
            source, target = getattr(source, name), getattr(target, name)
        field = source.DESCRIPTOR.fields_by_name.get(last) or source.DESCRIPTOR.fields_by_name.get(last + "_")
        if field is None:
            raise invalid(f"update_mask: {path} is no field of a function")
        target.ClearField(field.name)
        if field.is_repeated:
            getattr(target, field.name).MergeFrom(getattr(source, field.name))
        elif field.message_type is not None:
            if source.HasField(field.name):
                getattr(target, field.name).CopyFrom(getattr(source, field.name))
        else:
            setattr(target, field.name, getattr(source, field.name))
    return merged
