"""Ids for keys that have none."""

from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.keys import check_key, complete, new_id
from laptop.errors import invalid

AllocateIdsResponse: Any = types.AllocateIdsResponse.pb()
ReserveIdsResponse: Any = types.ReserveIdsResponse.pb()


class Ids:
    """RPC handlers."""

    async def allocate_ids(self, request: Any) -> Any:
        """Complete keys."""
        response = AllocateIdsResponse()
        for key in request.keys:
            check_key(request, key, must_be_complete=False)
            if complete(key):
                raise invalid("ids are allocated for incomplete keys only")
            made = response.keys.add()
            made.CopyFrom(key)
            made.path[-1].id = new_id()
        return response

    async def reserve_ids(self, request: Any) -> Any:
        """Nothing to do: ids are random, so that none which a client counts up to is ever allocated."""
        for key in request.keys:
            check_key(request, key, must_be_complete=True)
        return ReserveIdsResponse()
