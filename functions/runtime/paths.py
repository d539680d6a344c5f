"""Paths of a function's URL, of which the platform keeps some for itself.

Cloud Run answers ``/eventlog``, what begins with ``/_ah/`` and some of what ends in ``z`` by itself; Google advises
against every path that ends so: https://cloud.google.com/run/docs/known-issues#ah
"""

HEALTH = "/v1/health"
"""200 as long as the process lives."""
