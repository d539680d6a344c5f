"""A model in MLflow's own format, for ``mlflow models serve``: a Python function, saved as code."""

from types import SimpleNamespace

import mlflow
from flights_model import FlightsModel


class Flights(mlflow.pyfunc.PythonModel):
    """A frame with a record in each row in, answers out. MLflow has checked the columns by the signature."""

    def load_context(self, context):  # without types: MLflow takes them for a signature
        self.model = FlightsModel()

    def predict(self, context, model_input, params=None):
        records = [
            SimpleNamespace(record_id=row["record_id"], event_time=row["event_time"], features=SimpleNamespace(**row))
            for row in model_input.to_dict("records")
        ]
        return [
            answer | {"classified_at": answer["classified_at"].isoformat()} for answer in self.model.classify(records)
        ]


mlflow.models.set_model(Flights())
