"""The settings of ``submit``, which are those of every function."""

from functions.runtime.settings import Settings

__all__ = ["Settings"]
