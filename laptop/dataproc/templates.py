"""Dataproc workflow templates: checked, and filled in with parameters."""

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from laptop.errors import ServiceError, invalid

PARAMETER = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,48}[A-Za-z0-9]")
CLUSTER = re.compile(r"[a-z][a-z0-9-]{0,33}[a-z0-9]")
DAG_SECONDS = (600, 86400)
IGNORED_NOWHERE = ("jar_file_uris", "file_uris", "archive_uris", "logging_config")
"""Parts of a PySpark job that a laptop would have to honour, and does not."""
# For example jobs['train'].pysparkJob.args[1]; only single indexes, as the service has it.
FIELD = re.compile(r"jobs\['([^']+)'\]\.(\w+)\.(\w+)(?:\[(?:(\d+)|'([^']+)')\])?")


def order_of(template: Any) -> list[str]:
    """The step ids, each after its prerequisites.

    Raises:
        ServiceError: INVALID_ARGUMENT: a bad or double id, an unknown prerequisite, a circle.
    """
    graph: dict[str, set[str]] = {}
    for job in template.jobs:
        if not STEP.fullmatch(job.step_id):
            raise invalid(f"jobs: {job.step_id!r} is no step id (3 to 50 letters, digits, - and _)")
        if job.step_id in graph:
            raise invalid(f"jobs: the step id {job.step_id!r} is there twice")
        graph[job.step_id] = set(job.prerequisite_step_ids)
    for step, before in graph.items():
        for one in sorted(before - set(graph)):
            raise invalid(f"jobs[{step!r}]: its prerequisite {one!r} is no step")
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise invalid(f"jobs: the prerequisites go in a circle: {' → '.join(error.args[1])}") from error


def check(template: Any) -> None:  # noqa: C901  # a template's rules, in the order in which the service tells them
    """Check a template as the service does when it is created.

    Raises:
        ServiceError: INVALID_ARGUMENT, or UNIMPLEMENTED for what a laptop does not run.
    """
    if not template.jobs:
        raise invalid("jobs: a template needs at least one")
    order_of(template)
    for job in template.jobs:
        _check_job(job)
    _check_placement(template.placement)
    if template.HasField("dag_timeout") and not DAG_SECONDS[0] <= template.dag_timeout.seconds <= DAG_SECONDS[1]:
        raise invalid(f"dag_timeout: {DAG_SECONDS[0]} to {DAG_SECONDS[1]} s, not {template.dag_timeout.seconds}")
    if template.HasField("encryption_config"):
        raise ServiceError("UNIMPLEMENTED", "encryption_config: a laptop encrypts nothing")
    names = set()
    for parameter in template.parameters:
        if not PARAMETER.fullmatch(parameter.name):
            raise invalid(f"parameters: {parameter.name!r} is no name: A-Z, 0-9 and _, at most 40")
        if parameter.name in names:
            raise invalid(f"parameters: {parameter.name} is there twice")
        names.add(parameter.name)
        if not parameter.fields:
            raise invalid(f"parameters[{parameter.name}]: names no field")
        for path in parameter.fields:
            _set(template, path, None)
        for regex in parameter.validation.regex.regexes:
            try:
                re.compile(regex)
            except re.error as error:
                raise invalid(f"parameters[{parameter.name}]: {regex!r} is no regular expression: {error}") from error


def _check_job(job: Any) -> None:
    where = f"jobs[{job.step_id!r}]"
    kind = job.WhichOneof("job_type")
    if kind != "pyspark_job":
        raise ServiceError("UNIMPLEMENTED", f"{where}: a laptop runs pysparkJob only, not {kind}")
    if not job.pyspark_job.main_python_file_uri:
        raise invalid(f"{where}: pysparkJob.mainPythonFileUri is required")
    for field, _ in job.pyspark_job.ListFields():
        if field.name in IGNORED_NOWHERE:
            raise ServiceError("UNIMPLEMENTED", f"{where}: a laptop does not read pysparkJob.{field.json_name}")
    if job.HasField("scheduling"):
        raise ServiceError("UNIMPLEMENTED", f"{where}: scheduling: a laptop starts each job once")


def _check_placement(placement: Any) -> None:
    kind = placement.WhichOneof("placement")
    if kind is None:
        raise invalid("placement: name a managedCluster or a clusterSelector")
    if kind != "managed_cluster":
        raise ServiceError("UNIMPLEMENTED", "placement: a laptop has no clusters to select from: name a managedCluster")
    if not CLUSTER.fullmatch(placement.managed_cluster.cluster_name):
        raise invalid(
            f"placement.managedCluster.clusterName: {placement.managed_cluster.cluster_name!r} is no prefix of names: "
            "2 to 35 of a-z, 0-9 and -, beginning with a letter and not ending with -"
        )


def filled(template: Any, values: Mapping[str, str]) -> Any:
    """A copy of ``template`` with its parameters in place.

    Raises:
        ServiceError: INVALID_ARGUMENT: a value too few or too many, or one that the template's validation refuses.
    """
    known = {parameter.name for parameter in template.parameters}
    for name in sorted(set(values) - known):
        raise invalid(f"parameters: the template has no {name}; it has: {', '.join(sorted(known)) or 'none'}")
    for name in sorted(known - set(values)):
        raise invalid(f"parameters: {name} is missing")
    copy = type(template)()
    copy.CopyFrom(template)
    for parameter in template.parameters:
        value = values[parameter.name]
        rule = parameter.validation
        if rule.HasField("regex") and not any(re.fullmatch(regex, value) for regex in rule.regex.regexes):
            raise invalid(f"parameters[{parameter.name}]: {value!r} does not match {', '.join(rule.regex.regexes)}")
        if rule.HasField("values") and value not in rule.values.values:
            raise invalid(f"parameters[{parameter.name}]: {value!r} is none of {', '.join(rule.values.values)}")
        for path in parameter.fields:
            _set(copy, path, value)
    return copy


def _set(template: Any, path: str, value: str | None) -> None:  # noqa: C901  # each part of a path is refused in words of its own
    """Set the field that ``path`` names; None only checks that there is one."""
    match = FIELD.fullmatch(path)
    if match is None:
        raise invalid(f"parameters: {path!r} is no path that a laptop can fill in (jobs['step'].job.field[index])")
    step, kind, name, index, key = match.groups()
    jobs = [job for job in template.jobs if job.step_id == step]
    if not jobs:
        raise invalid(f"parameters: {path}: there is no step {step!r}")
    field = _by_json_name(jobs[0], kind)
    if field is None or jobs[0].WhichOneof("job_type") != field:
        raise invalid(f"parameters: {path}: the step {step!r} has no {kind}")
    job = getattr(jobs[0], field)
    target = _by_json_name(job, name)
    if target is None:
        raise invalid(f"parameters: {path}: {kind} has no {name}")
    held = getattr(job, target)
    descriptor = job.DESCRIPTOR.fields_by_name[target]
    entry = descriptor.message_type.fields_by_name.get("value") if descriptor.message_type is not None else None
    if (entry or descriptor).type != descriptor.TYPE_STRING:
        raise invalid(f"parameters: {path}: {name} holds no text")
    if descriptor.is_repeated != (index is not None or key is not None) or (entry is not None) != (key is not None):
        wanted = f"{name}['key']" if entry is not None else f"{name}[0]" if descriptor.is_repeated else name
        raise invalid(f"parameters: {path}: name one text, such as {wanted}")
    if index is not None:
        if int(index) >= len(held):
            raise invalid(f"parameters: {path}: {name} has {len(held)} elements")
        if value is not None:
            held[int(index)] = value
    elif key is not None:
        if value is not None:
            held[key] = value
    elif value is not None:
        setattr(job, target, value)


def _by_json_name(message: Any, name: str) -> str | None:
    for field in message.DESCRIPTOR.fields:
        if name in (field.json_name, field.name):
            return str(field.name)
    return None
