"""Job 2 of 3: boosted trees on the converted records, exported as ONNX. (What it does is training.py.)"""

import sys
from typing import Any

from spark.driver import Work, run


def load() -> tuple[Work, Any]:
    """The work and its storage client. Imported here, not above: Spark starts in the meantime."""
    from google.cloud.storage import Client

    from spark.training import train

    return train, Client()


if __name__ == "__main__":
    sys.exit(run("train", __doc__, load, sys.argv[1:]))
