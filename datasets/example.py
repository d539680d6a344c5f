"""What a data set is made of."""

from typing import Any

Document = dict[str, Any]
Example = tuple[Document, Document | None]
"""A record's document and its label's document (None if the outcome was never known)."""
