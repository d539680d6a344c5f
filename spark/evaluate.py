"""Job 3 of 3: is the model good, and may it take over? (What it does is evaluation.py.)"""

import sys
from typing import Any

from spark.driver import Work, run


def load() -> tuple[Work, Any]:
    """The work and its storage client. Imported here, not above: Spark starts in the meantime."""
    import pandas  # noqa: F401 - toPandas would import it later, where the job waits for it
    from google.cloud.storage import Client

    from spark.evaluation import evaluate

    return evaluate, Client()


if __name__ == "__main__":
    sys.exit(run("evaluate", __doc__, load, sys.argv[1:]))
