"""Reads: lookups, queries, aggregations."""

import itertools
from typing import Any

from google.cloud.datastore_v1 import types

from laptop.datastore.aggregations import aggregate, aliases
from laptop.datastore.commits import check_mask
from laptop.datastore.composites import Composites
from laptop.datastore.entities import read_entity
from laptop.datastore.keys import check_key, path_of, scope_of
from laptop.datastore.queries import Query
from laptop.datastore.transactions import Transaction, Transactions, last_change
from laptop.errors import ServiceError, invalid
from laptop.store import Store

LookupResponse: Any = types.LookupResponse.pb()
RunQueryResponse: Any = types.RunQueryResponse.pb()
RunAggregationQueryResponse: Any = types.RunAggregationQueryResponse.pb()
ResultType: Any = types.EntityResult.pb().ResultType
MoreResults: Any = types.QueryResultBatch.pb().MoreResultsType

MAX_KEYS = 1000
"""Of one lookup: https://cloud.google.com/datastore/docs/concepts/limits."""
MAX_RESULTS = 1000
MAX_BYTES = 2_900_000
"""An answer that has more than this is handed out in parts. One entity (1 MiB) above it is still within the 4 MiB that
a gRPC client takes if nobody has told it otherwise."""


class Reads:
    """RPC handlers.

    Args:
        store: the server's.
        transactions: those under way.
        composites: the indexes that queries may need.
    """

    def __init__(self, store: Store, transactions: Transactions, composites: Composites) -> None:
        self._store = store
        self._transactions = transactions
        self._composites = composites

    async def lookup(self, request: Any) -> Any:
        """Entities by key. Those that do not fit into one answer are deferred."""
        shown = _shown(request)
        if len(request.keys) > MAX_KEYS:
            raise invalid(f"a lookup has {MAX_KEYS} keys at most, not {len(request.keys)}")
        for key in request.keys:
            check_key(request, key, must_be_complete=True)
        response = LookupResponse()
        wanted = {(scope_of(request, key), key.path[-1].kind, path_of(key)): key for key in request.keys}
        size = 0
        with self._store.snapshot():
            transaction, response.transaction = self._transactions.reading(request.read_options)
            for address, key in wanted.items():
                if size > MAX_BYTES:
                    response.deferred.add().CopyFrom(key)
                    continue
                stored = read_entity(self._store.read, *address)
                if transaction is not None:
                    transaction.entities[address] = stored.version if stored else 0
                if stored is None:
                    missing = response.missing.add(version=self._version())
                    missing.entity.key.CopyFrom(key)
                else:
                    found = stored.result()
                    if shown is not None:
                        for name in set(found.entity.properties) - shown:
                            del found.entity.properties[name]
                    response.found.append(found)
                    size += found.entity.ByteSize()
        response.read_time.GetCurrentTime()
        return response

    async def run_query(self, request: Any) -> Any:
        """Entities by kind, filter and order, a batch of them."""
        _refuse_fields(request, "property_mask", "explain_options", "gql_query")
        query = Query(request, request.query)
        self._check_index(request, query)
        response = RunQueryResponse()
        batch = response.batch
        with self._store.snapshot():
            transaction, response.transaction = self._transactions.reading(request.read_options)
            self._note(transaction, query)
            results = query.run(self._store.rows)
            batch.end_cursor = request.query.start_cursor
            for found in itertools.islice(results, query.offset):
                batch.skipped_results += 1
                batch.skipped_cursor = batch.end_cursor = found.cursor
            size = 0
            batch.more_results = MoreResults.Value("NO_MORE_RESULTS")
            for found in results:
                if len(batch.entity_results) == query.limit:
                    batch.more_results = MoreResults.Value("MORE_RESULTS_AFTER_LIMIT")
                    break
                if len(batch.entity_results) == MAX_RESULTS or size > MAX_BYTES:
                    batch.more_results = MoreResults.Value("NOT_FINISHED")
                    break
                result = found.result(query.keys_only)
                result.cursor = batch.end_cursor = found.cursor
                size += result.ByteSize()
                batch.entity_results.append(result)
            results.close()
            batch.snapshot_version = self._version()
        batch.entity_result_type = ResultType.Value(
            "KEY_ONLY" if query.keys_only else "PROJECTION" if query.projection else "FULL"
        )
        batch.read_time.GetCurrentTime()
        return response

    async def run_aggregation_query(self, request: Any) -> Any:
        """Count, sum and average over a query."""
        _refuse_fields(request, "explain_options", "gql_query")
        aggregations = request.aggregation_query.aggregations
        aliases(aggregations)
        query = Query(request, request.aggregation_query.nested_query)
        self._check_index(request, query)
        response = RunAggregationQueryResponse()
        with self._store.snapshot():
            transaction, response.transaction = self._transactions.reading(request.read_options)
            self._note(transaction, query)
            only_counts = all(one.WhichOneof("operator") == "count" for one in aggregations)
            total = query.count(self._store.rows) if only_counts else None
            entities: list[Any] = []
            if total is None:
                end = None if query.limit is None else query.offset + query.limit
                results = itertools.islice(query.run(self._store.rows), query.offset, end)
                entities = [found.stored.entity for found in results]
                total = len(entities)
        response.batch.aggregation_results.append(aggregate(aggregations, total, entities))
        response.batch.more_results = MoreResults.Value("NO_MORE_RESULTS")
        response.batch.read_time.GetCurrentTime()
        return response

    def _check_index(self, request: Any, query: Query) -> None:
        self._composites.check(request.project_id, query)

    def _note(self, transaction: Transaction | None, query: Query) -> None:
        if transaction is not None:
            kind = query.kind or ""
            transaction.kinds[query.scope, kind] = last_change(self._store.read, query.scope, kind)

    def _version(self) -> int:
        return int(self._store.read("SELECT version FROM counter")[0]["version"])


def _shown(request: Any) -> frozenset[str] | None:
    """The properties that are asked for; None: all."""
    if not request.HasField("property_mask"):
        return None
    check_mask(request.property_mask)
    return frozenset(request.property_mask.paths)


def _refuse_fields(request: Any, *names: str) -> None:
    for name in names:
        if request.HasField(name):
            raise ServiceError("UNIMPLEMENTED", f"{name} is not served on a laptop (LIMITATIONS.md)")
