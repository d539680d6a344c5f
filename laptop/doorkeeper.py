"""Whom no server here answers: a web page that the person at this machine happens to visit.

Every program on a machine can reach its loopback ports, the browser too, and a browser sends what any page asks it to.
It does not let the page read the answer of another site, but the request has been carried out by then; and a page that
has its own name resolved to 127.0.0.1 (DNS rebinding) is no other site at all. So a request must be meant for this
server by name, and must not come from a page of somebody else's.

What a browser says, and a page cannot change: https://fetch.spec.whatwg.org/#forbidden-request-header.
"""

from collections.abc import Iterable

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OWN_SITE = (b"same-origin", b"none")
"""``Sec-Fetch-Site`` of our own pages and of an address that somebody has typed: https://www.w3.org/TR/fetch-metadata/.
Another port of this machine is ``same-site``, and somebody else's."""
NO_PAGES = "no page of another site may call this server"
WEB_PORT = 80
SHOWN = 100
Refusal = tuple[int, str]
"""An HTTP status, and the cause with its fix."""


class Doorkeeper:
    """Knows the names of one server.

    Args:
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        names = [f"{name}:{port}" for name in LOOPBACK] + (list(LOOPBACK) if port == WEB_PORT else [])
        self._hosts = {name.encode() for name in names}
        self._origins = {b"http://" + name for name in self._hosts}
        self._name = f"{LOOPBACK[0]}:{port}"

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Why a request with these headers is not answered; None if it is.

        Args:
            headers: names in lower case, and values, as they came.
        """
        hosts = 0
        for name, value in headers:
            if name == b"host":
                hosts += 1
                if value.lower() not in self._hosts:
                    return 421, f"Host: {_shown(value)} is not this server, which is {self._name}: ask for that"
            elif name == b"origin":
                if value not in self._origins:
                    return 403, f"Origin: {_shown(value)}: {NO_PAGES}; call it from a program"
            elif name == b"sec-fetch-site" and value not in OWN_SITE:
                return 403, f"Sec-Fetch-Site: {_shown(value)}: {NO_PAGES}; type its address"
        if hosts != 1:
            return 400, f"Host: one such header is wanted, and {hosts} came: send Host: {self._name} once"
        return None


def _shown(value: bytes) -> str:
    return "".join(one if one.isprintable() and one not in "<>&" else "?" for one in value.decode("latin-1"))[:SHOWN]
