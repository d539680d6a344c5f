"""Errors inside a workflow, as the language sees them."""

from typing import Any


class SourceError(Exception):
    """The source cannot be deployed.

    Args:
        message: names the step and the cause.
        line: of the source, from 1 on; None where the caller knows better.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line

    def at(self, line: int | None) -> "SourceError":
        """The same with a line, unless it has one."""
        return self if self.line is not None else SourceError(self.message, line)

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class RaisedError(Exception):
    """A value that was raised, by a step or by the runtime.

    Args:
        value: a string, or a map with ``message``, ``code`` and ``tags`` as
            https://cloud.google.com/workflows/docs/reference/syntax/error-types has it.
    """

    def __init__(self, value: Any) -> None:
        super().__init__(str(value))
        self.value = value
        self.trace: list[tuple[str, str, int]] = []
        """Routine, step and line, innermost first."""


def error(tag: str, message: str, **more: Any) -> RaisedError:
    """An error of the runtime's own, such as TypeError or KeyError."""
    return RaisedError({"message": f"{tag}: {message}", "tags": [tag], **more})
