"""Errors as the JSON API gives them: https://cloud.google.com/storage/docs/json_api/v1/status-codes."""


class HttpError(Exception):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        reason: the API's word for it.
        message: the thing, the cause and the fix, in words.
        headers: to be sent with it.
    """

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {
            "error": {
                "code": status,
                "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason}],
            }
        }


def invalid(message: str) -> HttpError:
    """A request that can never be right."""
    return HttpError(400, "invalid", message)


def no_such(bucket: str, name: str) -> HttpError:
    """An object that is not there."""
    return HttpError(404, "notFound", f"No such object: {bucket}/{name}")


def not_served(what: str) -> HttpError:
    """What the service does and we do not."""
    return HttpError(501, "notImplemented", f"{what} is not served on a laptop (LIMITATIONS.md)")
