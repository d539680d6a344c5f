"""Cloud Functions, 2nd generation: each function is a ``functions-framework`` process behind a front door of its own.

The API is ``google.cloud.functions.v2``. A function's URL is a loopback port that stays the same; the door behind it
checks identity tokens against ``roles/run.invoker``, queues, limits and times out as Cloud Run does, and switches to a
new revision without failing a request.
"""

from laptop.functions.server import build

__all__ = ["build"]
