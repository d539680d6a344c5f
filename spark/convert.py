"""Job 1 of 3: new JSON records and labels of the archive to Parquet. (What it does is conversion.py.)"""

import sys
from typing import Any

from spark.driver import Work, run


def load() -> tuple[Work, Any]:
    """The work and its storage client. Imported here, not above: Spark starts in the meantime."""
    from google.cloud.storage import Client

    from spark.conversion import convert

    return convert, Client()


if __name__ == "__main__":
    sys.exit(run("convert", __doc__, load, sys.argv[1:]))
