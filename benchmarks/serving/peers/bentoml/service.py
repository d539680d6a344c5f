"""BentoML, one worker, ``async def``, with the record as the whole body."""

import bentoml
from flights_model import FlightsModel, Record


@bentoml.service(workers=1, traffic={"timeout": 30})
class Flights:
    """One record a request."""

    def __init__(self) -> None:
        self.model = FlightsModel()

    @bentoml.api(route="/v1/classify")
    async def classify(self, record: Record, /) -> dict:
        """One record."""
        return self.model.classify([record])[0]
