"""What a call writes into a policy, whichever service's it is."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from rehearsal.recorder import Call


def written(call: Call) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """The resource and the (role, member) pairs of a policy that a call writes; of a bucket, ``bucket/NAME``."""
    if call.method.endswith(".SetIamPolicy") and isinstance(call.request, Message):
        request: Any = call.request
        yield request.resource, {(one.role, member) for one in request.policy.bindings for member in one.members}
    elif call.method == "storage.buckets.setIamPolicy":
        bindings = json.loads(call.body or b"{}").get("bindings", [])
        yield f"bucket/{bucket_of(call)}", {(one["role"], member) for one in bindings for member in one["members"]}


def bucket_of(call: Call) -> str:
    """The bucket that a call of Cloud Storage's JSON API is about."""
    return str(call.request).partition("/b/")[2].partition("/")[0].partition("?")[0]
