"""The time of a rehearsal: it stands still but for what is waited, so minutes and weeks pass at once."""


class Clock:
    """Seconds since the rehearsal began.

    Whoever deploys waits by :meth:`sleep` instead of ``time.sleep``; a judge that refuses for a while, or that looks
    for what a service does by itself after days, reads :attr:`now`.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
