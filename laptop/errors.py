"""Errors as Google's APIs give them, over gRPC and over REST."""

from typing import Any

import grpc
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message
from google.rpc import status_pb2

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto tells the HTTP mapping of each code.
HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}


class ServiceError(Exception):
    """What a handler raises to answer with an error.

    Args:
        code: a ``grpc.StatusCode`` or its name.
        message: the thing, the cause and the fix, in words.
        details: messages of ``google.rpc.error_details_pb2``.
    """

    def __init__(self, code: grpc.StatusCode | str, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code = grpc.StatusCode[code] if isinstance(code, str) else code
        self.message = message
        self.details = details

    @property
    def http_status(self) -> int:
        """The HTTP status that belongs to the code."""
        return HTTP_STATUS[self.code]

    def status(self) -> status_pb2.Status:
        """The error as a ``google.rpc.Status``, the form that operations and gRPC trailers carry."""
        packed = []
        for detail in self.details:
            box = any_pb2.Any()
            box.Pack(detail)
            packed.append(box)
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)

    def body(self) -> dict[str, Any]:
        """The error as REST answers it."""
        error: dict[str, Any] = {"code": self.http_status, "message": self.message, "status": self.code.name}
        if self.details:
            error["details"] = [json_format.MessageToDict(box) for box in self.status().details]
        return {"error": error}


def refused(status: int, message: str) -> dict[str, Any]:
    """The body of an answer that no API gives, in the form of all of them: who asked may not, or not like that."""
    return {"error": {"code": status, "message": message, "errors": [{"message": message, "domain": "global"}]}}


def not_found(name: str) -> ServiceError:
    """The usual answer for a resource that is not there."""
    return ServiceError(grpc.StatusCode.NOT_FOUND, f"Resource not found: {name}")


def already_exists(name: str) -> ServiceError:
    """The usual answer for a resource that is there already."""
    return ServiceError(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists: {name}")


def invalid(message: str) -> ServiceError:
    """The usual answer to a request that can never be right."""
    return ServiceError(grpc.StatusCode.INVALID_ARGUMENT, message)
