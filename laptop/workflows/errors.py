"""Errors inside a workflow, as the language sees them."""

from typing import Any


class SourceError(Exception):
    """The source cannot be deployed; the text names the step and the cause."""


class Raised(Exception):
    """A value that was raised, by a step or by the runtime.

    Args:
        value: a string, or a map with ``message``, ``code`` and ``tags`` as
            https://cloud.google.com/workflows/docs/reference/syntax/error-types has it.
    """

    def __init__(self, value: Any) -> None:
        super().__init__(str(value))
        self.value = value


def error(tag: str, message: str, **more: Any) -> Raised:
    """An error of the runtime's own, such as TypeError or KeyError."""
    return Raised({"message": f"{tag}: {message}", "tags": [tag], **more})
