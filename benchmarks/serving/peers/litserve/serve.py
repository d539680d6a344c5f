"""LitServe, one worker on the CPU, without batching: at this load it waits for a batch longer than the model works."""

import sys

import litserve
from flights_model import FlightsModel, Record


class Classify(litserve.LitAPI):
    """One record a request."""

    def setup(self, device: str) -> None:
        self.model = FlightsModel()

    def decode_request(self, request: dict) -> object:
        return Record.model_validate(request)

    def predict(self, record: object) -> dict:
        return self.model.classify([record])[0]

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classify(api_path="/v1/classify"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
