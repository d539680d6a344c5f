"""The settings of ``submit``: those that every function has."""

from functions.runtime.settings import Settings

__all__ = ["Settings"]
