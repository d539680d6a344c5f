"""Disables the server's worker timeout, because Cloud Run gives an instance no processor time between requests.

gunicorn's arbiter kills a worker that has shown no activity for its ``timeout``. A process without processor time
cannot show any: when an instance resumes, whichever of the two processes runs first decides, and the request of a
killed worker is cut off. functions-framework takes the timeout from ``CLOUD_RUN_TIMEOUT_SECONDS``
(``_http/gunicorn.py``), which Cloud Run sets to the request timeout. With the value 0 there is no worker timeout, as in
Google's own examples, for the same reason: https://github.com/GoogleCloudPlatform/python-docs-samples/pull/3229. Cloud
Run itself ends requests that take too long.

No documentation says whether a deployment may declare the variable, or whether its value would persist. So this module
sets it at the last moment: the framework imports the function's source before it creates the server.
"""

from collections.abc import MutableMapping


def disable_worker_timeout(environment: MutableMapping[str, str]) -> None:
    """Set the timeout in ``environment`` (``os.environ``). Call this while the function's source is imported."""
    environment["CLOUD_RUN_TIMEOUT_SECONDS"] = "0"
