"""The limits of a request to ``classify`` or ``submit``, enforced by handlers and stated by OpenAPI documents."""

MAX_BODY_BYTES = 10_000_000
"""Limit, in bytes, for one request body, both as it is sent and decompressed."""
MAX_RECORDS = 1000
"""Limit for the number of records in one request."""
