"""Whether a request is one that Google would take, judged by what the client packages say about its messages.

The packages declare every field and enum, and their documentation marks what is required and what only the service may
set. That is read here, not written down again.
"""

import inspect
import itertools
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import proto
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from laptop.surface import Rpc

_FIELD = re.compile(r"^(\w+) \(.+\):$")


def faults(rpc: Rpc, request: Message) -> list[str]:
    """All that is wrong with ``request``; empty if nothing is."""
    return [f"{rpc.name}: {text}" for text in (*_names(rpc, request), *_message(request, "", new=_is_new(rpc)))]


def _is_new(rpc: Rpc) -> bool:
    """Whether what is sent must be complete: an update sends what changes."""
    return not rpc.name.startswith(("Update", "Patch"))


def _names(rpc: Rpc, request: Message) -> Iterator[str]:
    """Resource names, which the REST paths tell the form of."""
    patterns: dict[str, list[str]] = {}
    for route in rpc.http:
        for field, template in re.findall(r"\{([\w.]+)=([^}]+)\}", route.uri):
            patterns.setdefault(field, []).append(template)
    for field, templates in patterns.items():
        value: Any = request
        for part in field.split("."):
            value = getattr(value, part + "_", None) if not hasattr(value, part) else getattr(value, part)
        if not isinstance(value, str):
            continue
        if not any(_glob(template).fullmatch(value) for template in templates):
            yield f"{field} is {value!r}, which is not of the form {' or '.join(dict.fromkeys(templates))}"


def _glob(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+"))


def _message(message: Message, path: str, *, new: bool) -> Iterator[str]:
    for unknown in UnknownFieldSet(message):
        yield f"{path or 'request'}: field number {unknown.field_number} is unknown"
    filled = {field.name for field, _ in message.ListFields()}
    # A request's own fields are always required; a resource's only when it is new.
    for name in _marked(_kind(message), "Required") if new or not path else ():
        if name not in filled and not _has_default(message, name):
            yield f"{path}{name} is required and not set"
    if path and new:  # an update may send back what was read; the service leaves such fields as they are
        for name in _marked(_kind(message), "Output only") & filled:
            yield f"{path}{name} is set, and only the service may set it"
    for field, value in message.ListFields():
        yield from _field(field, value, f"{path}{field.name}", new=new)


def _field(field: FieldDescriptor, value: Any, path: str, *, new: bool) -> Iterator[str]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            for key, one in value.items():
                yield from _message(one, f"{path}[{key}].", new=new)
        return
    values = list(value) if field.is_repeated else [value]
    for index, one in enumerate(values):
        where = f"{path}[{index}]" if field.is_repeated else path
        if field.message_type is not None:
            yield from _message(one, f"{where}.", new=new)
        elif field.enum_type is not None and one not in field.enum_type.values_by_number:
            yield f"{where} is {one}, which is no value of {field.enum_type.full_name}"


def _has_default(message: Message, name: str) -> bool:
    """Whether a field left out means its default on purpose: a number or boolean without presence may be zero."""
    field = message.DESCRIPTOR.fields_by_name[name]
    numeric = field.cpp_type not in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
    return numeric and field.enum_type is None and not field.is_repeated


def _kind(message: Message) -> Any:
    return type(message)


@cache
def _marked(kind: Any, mark: str) -> frozenset[str]:
    """The fields whose documentation begins with ``mark``."""
    wrapper = _wrapper(kind)
    if wrapper is None:
        return frozenset()
    found = set()
    lines = inspect.cleandoc(wrapper.__doc__ or "").splitlines()
    for line, following in itertools.pairwise(lines):
        heading = _FIELD.match(line.strip())
        if heading and following.strip().startswith(f"{mark}."):
            found.add(heading.group(1))
    return frozenset(found & set(kind.DESCRIPTOR.fields_by_name))


def _wrapper(kind: type[Message]) -> type[Any] | None:
    """The documented class around a plain protobuf one; None for a package that has none."""
    rules = proto.Marshal(name=kind.DESCRIPTOR.file.package)._rules  # noqa: SLF001  # has no method to look one up
    return getattr(rules.get(kind), "_wrapper", None)
