"""What a deployment is made of: one module a unit, with who it is, what it may do and its rows; and what units share.

:mod:`lunation.deploy.table` puts the rows in order. Another unit is a module here, a line in :data:`UNITS`, and its
rows' place in that order.
"""

from lunation.deploy.stack import (
    archive,
    build,
    callers,
    classify,
    classify_http,
    ingest_fast,
    retrain,
    scheduler,
    submit,
    train,
)
from lunation.deploy.stack.unit import Unit

UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        ingest_fast.UNIT,
        classify.UNIT,
        classify_http.UNIT,
        submit.UNIT,
        archive.UNIT,
        train.UNIT,
        retrain.UNIT,
        scheduler.UNIT,
        callers.PUSH,
        callers.CALLER,
        build.UNIT,
    )
}
"""All units by their names, in the order in which plan and policies name them."""
