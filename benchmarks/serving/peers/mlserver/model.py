"""MLServer as it comes, with its one worker, over its protocol (V2): the record is the element of a tensor of bytes."""

import orjson
from flights_model import FlightsModel, Record
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Flights(MLModel):
    """One record a request."""

    async def load(self) -> bool:
        self.flights = FlightsModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answer's JSON, again as the one element of a tensor."""
        (text,) = StringCodec.decode_input(payload.inputs[0])
        (answer,) = self.flights.classify([Record.model_validate_json(text)])
        output = StringCodec.encode_output("answer", [orjson.dumps(answer).decode()])
        return InferenceResponse(model_name=self.name, outputs=[output])
