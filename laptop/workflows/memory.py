"""What an execution holds: variables by scope, copied when they are assigned, and measured.

https://cloud.google.com/workflows/docs/reference/syntax/variables#memory-usage tells the sizes.
"""

from typing import Any

from laptop.workflows.errors import error

MAX_BYTES = 512 * 1024
MAX_STRING_BYTES = 256 * 1024


class Meter:
    """The memory of one execution."""

    def __init__(self) -> None:
        self.used = 0

    def change(self, bytes_: int) -> None:
        """Take, or give back.

        Raises:
            RaisedError: ResourceLimitError: more than the service allows.
        """
        if bytes_ > 0 and self.used + bytes_ > MAX_BYTES:
            raise error("ResourceLimitError", f"the variables take more than {MAX_BYTES // 1024} KB of memory")
        self.used += bytes_


class Variables:
    """Names of one call of a routine; a ``for`` and an ``except`` have their own on top.

    Args:
        meter: of the execution.
        outer: those around.
    """

    def __init__(self, meter: Meter, outer: "Variables | None" = None) -> None:
        self.meter = meter
        self._outer = outer
        self._held: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}

    def find(self, name: str) -> "Variables | None":
        """Where a name is held."""
        if name in self._held:
            return self
        return self._outer.find(name) if self._outer is not None else None

    def __getitem__(self, name: str) -> Any:
        return self._held[name]

    def set(self, name: str, value: Any) -> None:
        """Set a name where it is held, or here."""
        (self.find(name) or self).hold(name, value)

    def hold(self, name: str, value: Any) -> None:
        """Set a name here, to a copy of ``value``."""
        self._measure(name, value)
        self._held[name] = copied(value)

    def changed(self, name: str) -> None:
        """Measure again what was changed in place."""
        self._measure(name, self._held[name])

    def release(self) -> None:
        """Give back the memory: the scope is left."""
        self.meter.change(-sum(self._sizes.values()))
        self._sizes.clear()

    def _measure(self, name: str, value: Any) -> None:
        size = size_of(value)
        self.meter.change(size - self._sizes.get(name, 0))
        self._sizes[name] = size


def copied(value: Any) -> Any:
    """A copy that shares nothing that can be changed: values are passed by value."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    if isinstance(value, list):
        return [copied(one) for one in value]
    return value


def size_of(value: Any) -> int:
    """The bytes that the service counts for a value.

    Raises:
        RaisedError: ResourceLimitError: a string is longer than the service allows, or all of it larger.
    """
    if isinstance(value, (str, bytes)):
        return 8 + string_size(len(value.encode()) if isinstance(value, str) else len(value))
    size = 8
    if isinstance(value, (list, dict)):
        for one in value:
            size += size_of(one) + (size_of(value[one]) if isinstance(value, dict) else 0)
            if size > MAX_BYTES:  # at once: what is held twice is counted twice, and could be a very great deal
                raise error("ResourceLimitError", f"a value takes more than {MAX_BYTES // 1024} KB of memory")
    return size


def string_size(size: int) -> int:
    """The bytes of a string as they are, unless there are more than the service allows.

    Raises:
        RaisedError: ResourceLimitError.
    """
    if size > MAX_STRING_BYTES:
        raise error("ResourceLimitError", f"a string has {size} bytes of at most {MAX_STRING_BYTES // 1024} KB")
    return size
