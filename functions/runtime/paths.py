"""URL paths that every function serves. Cloud Run reserves some paths for itself.

Cloud Run itself answers ``/eventlog``, paths that begin with ``/_ah/`` and some paths that end in ``z``; Google advises
against every path that ends in ``z``: https://cloud.google.com/run/docs/known-issues#ah
"""

HEALTH = "/v1/health"
"""The path that answers 200 while the process is running."""
