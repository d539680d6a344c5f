"""Regular expressions: RE2's, as the documentation of ``text.match_regex`` and its neighbours has them.

https://cloud.google.com/workflows/docs/reference/stdlib/text/match_regex: an expression matches if it matches a part.
…/find_all_regex and …/replace_all_regex: of matches that overlap the leftmost counts, of those that begin at one place
the longest. A match of nothing right behind another match is none, as in RE2's own GlobalReplace.
"""

import time
from collections.abc import Iterator

import re2

from laptop.workflows.errors import error

MAX_WORK = 100_000_000
"""States of the expression times characters of the text: RE2 looks at each pair once in the worst case, in some seconds
for so many."""
MAX_SECONDS = 10.0
"""Of all matches together: each may look to the end of the text again. A workflow's step waits so long, the server does
not, which calls these functions in a thread; RE2 lets go of the interpreter while it searches."""
LARGE = 10_000
"""States. An expression of more is not kept for the next time."""

_OPTIONS = re2.Options()
_OPTIONS.longest_match = True
_OPTIONS.log_errors = False


def contains(source: str, regexp: str) -> bool:
    """Whether an expression matches a part of a text.

    Raises:
        RaisedError: ValueError: it is no expression of RE2; ResourceLimitError: it takes too long.
    """
    return next(matches(source, regexp), None) is not None


def matches(source: str, regexp: str) -> Iterator[tuple[int, int]]:
    """Where each match begins and ends.

    Raises:
        RaisedError: ValueError: it is no expression of RE2; ResourceLimitError: it takes too long.
    """
    try:
        compiled = re2.compile(regexp, _OPTIONS)
    except re2.error as cause:
        (reason,) = cause.args
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise error("ValueError", f"{regexp[:80]!r} is no regular expression of RE2: {text}") from None
    states = compiled.programsize
    if states > LARGE:
        re2.purge()
    if states * len(source) > MAX_WORK:
        raise error(
            "ResourceLimitError",
            f"a regular expression of {states} states is not searched for in a text of {len(source)} characters",
        )
    until = time.monotonic() + MAX_SECONDS
    last = -1
    for match in compiled.finditer(source):
        start, end = match.span()
        if start == end == last:
            continue
        last = end
        yield start, end
        if time.monotonic() > until:
            raise error("ResourceLimitError", f"{regexp[:80]!r} was searched for during {MAX_SECONDS:.0f} seconds")
