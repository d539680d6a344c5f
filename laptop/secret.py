"""The secret that the pages below ``/_laptop/`` want: whoever can read the state folder has it, and nobody else.

A web page, or another user of the machine, can reach a loopback port; neither can read a file that is its owner's only.
"""

import hmac
import secrets
from pathlib import Path

from laptop import private

HEADER = "X-Laptop-Secret"
FILE = "secret"


def secret(state: Path) -> str:
    """The secret of the servers on ``state``, made by whoever comes first."""
    return private.once(state / FILE, lambda: secrets.token_urlsafe(32).encode()).decode()


def headers(state: Path) -> dict[str, str]:
    """What a request to ``/_laptop/*`` of a server on ``state`` has to carry."""
    return {HEADER: secret(state)}


def is_right(given: str, wanted: str) -> bool:
    """Whether a header's value is the secret, told in the same time whatever it is."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
