"""Errors that decide how a request or a pushed message ends; ``push.py`` maps each to its response."""


class PermanentlyRefusedError(ValueError):
    """The input will never be accepted, whether a service or this code refuses it. The text is the reason."""


class RetryLaterError(Exception):
    """The message cannot be processed yet. The text says what is missing."""


class OverloadedError(Exception):
    """More input is waiting than memory allows: requests arrive faster than the service completes them."""
