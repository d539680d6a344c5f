"""Long-running operations (``google.longrunning``), kept in a server's store."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from laptop.errors import ServiceError, not_found
from laptop.service import ends_with_its_caller
from laptop.store import Store

SCHEMA = "CREATE TABLE IF NOT EXISTS operation (name TEXT PRIMARY KEY, made REAL NOT NULL, message BLOB NOT NULL);"
log = logging.getLogger("laptop")


class Operations:
    """Starts operations and answers the Operations interface. Its methods are RPC handlers.

    Args:
        store: a store whose schema includes :data:`SCHEMA`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    async def stop(self) -> None:
        """Stop the work. Its operations stay unfinished, for the next start to see."""
        self._stopped = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(
        self, name: str, metadata: Message | None, work: Callable[[], Awaitable[Message]]
    ) -> operations_pb2.Operation:
        """Record an operation called ``name``, start ``work`` and answer at once.

        The operation ends with what ``work`` returns, or with the error that it raises.
        """
        operation = operations_pb2.Operation(name=name)
        if metadata is not None:
            operation.metadata.Pack(metadata)
        await self.save(operation)
        task = asyncio.create_task(self._finish(operation, work))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return operation

    async def finished(self, name: str, metadata: Message | None, response: Message) -> operations_pb2.Operation:
        """Record an operation that is done already."""
        operation = operations_pb2.Operation(name=name, done=True)
        if metadata is not None:
            operation.metadata.Pack(metadata)
        operation.response.Pack(response)
        await self.save(operation)
        return operation

    async def save(self, operation: operations_pb2.Operation) -> None:
        """Keep the operation as it is now."""
        row = (operation.name, time.time(), operation.SerializeToString())
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO operation VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET message = excluded.message",
                row,
            )
        )

    def read(self, name: str) -> operations_pb2.Operation:
        """The operation as last saved.

        Raises:
            ServiceError: NOT_FOUND.
        """
        rows = self._store.read("SELECT message FROM operation WHERE name = ?", (name,))
        if not rows:
            raise not_found(name)
        return operations_pb2.Operation.FromString(rows[0]["message"])

    def unfinished(self) -> list[operations_pb2.Operation]:
        """What a killed server left behind, for its service to take up again or to end."""
        operations = [
            operations_pb2.Operation.FromString(row["message"])
            for row in self._store.read("SELECT message FROM operation ORDER BY made")
        ]
        return [operation for operation in operations if not operation.done]

    async def fail(self, operation: operations_pb2.Operation, error: ServiceError) -> None:
        """End ``operation`` with an error."""
        operation.done = True
        operation.error.CopyFrom(error.status())
        await self.save(operation)

    async def _finish(self, operation: operations_pb2.Operation, work: Callable[[], Awaitable[Message]]) -> None:
        try:
            response = await work()
        except asyncio.CancelledError:
            if self._stopped:
                raise
            await self.fail(self.read(operation.name), ServiceError("CANCELLED", "the operation was cancelled"))
        except ServiceError as error:
            await self.fail(self.read(operation.name), error)
        except Exception as error:
            log.exception("%s failed", operation.name)
            await self.fail(self.read(operation.name), ServiceError("INTERNAL", f"{type(error).__name__}: {error}"))
        else:
            done = self.read(operation.name)  # the work may have saved newer metadata
            done.done = True
            done.response.Pack(response)
            await self.save(done)

    # --- google.longrunning.Operations

    async def get_operation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        """The operation as it stands."""
        return self.read(request.name)

    async def list_operations(
        self, request: operations_pb2.ListOperationsRequest
    ) -> operations_pb2.ListOperationsResponse:
        """All operations below ``request.name``, newest first; filters are refused."""
        if request.filter:
            raise ServiceError("UNIMPLEMENTED", "ListOperations: filter is not supported by this server")
        rows = self._store.read(
            "SELECT message FROM operation WHERE substr(name, 1, ?) = ? ORDER BY made DESC",
            (len(request.name), request.name),
        )
        return operations_pb2.ListOperationsResponse(
            operations=[operations_pb2.Operation.FromString(row["message"]) for row in rows]
        )

    async def cancel_operation(self, request: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        """Ask the work to stop; the operation ends with CANCELLED."""
        self.read(request.name)
        task = self._tasks.get(request.name)
        if task is not None:
            task.cancel()
        return empty_pb2.Empty()

    async def delete_operation(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        """Forget an operation."""
        self.read(request.name)
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM operation WHERE name = ?", (request.name,))
        )
        return empty_pb2.Empty()

    @ends_with_its_caller
    async def wait_operation(self, request: operations_pb2.WaitOperationRequest) -> operations_pb2.Operation:
        """The operation once it is done, or as it stands when the timeout is over."""
        task = self._tasks.get(request.name)
        if task is not None:
            with contextlib.suppress(TimeoutError):
                timeout = request.timeout.ToTimedelta().total_seconds() or 60
                await asyncio.wait_for(asyncio.shield(task), timeout)
        return self.read(request.name)
