"""An instance of Cloud Run sleeps between requests: its server must not take a worker that slept for one that hangs.

gunicorn's arbiter kills a worker that has given no sign of life for so long as its ``timeout``. Processes that had no
processor cannot give one: whichever of the two wakes first decides, and what the killed worker was answering is cut
off. functions-framework takes that timeout from ``CLOUD_RUN_TIMEOUT_SECONDS`` (``_http/gunicorn.py``), which Cloud Run
sets to what a request may take. Without it there is no timeout, as Google's own examples have it, for just this reason:
https://github.com/GoogleCloudPlatform/python-docs-samples/pull/3229. What takes too long ends at Cloud Run's door.

Whether a deployment may declare the variable, and whether its value would hold, is nowhere documented. So it is set
where nobody else comes after: the framework imports the source before it makes its server.
"""

from collections.abc import MutableMapping


def disable_worker_timeout(environment: MutableMapping[str, str]) -> None:
    """To be called with ``os.environ`` at the start, for the server that the framework makes afterwards."""
    environment["CLOUD_RUN_TIMEOUT_SECONDS"] = "0"
