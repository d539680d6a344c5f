"""FastAPI with onnxruntime: ``async def``, for uvicorn with uvloop and httptools. Answers as orjson writes them.

A response of one's own is the fast way in FastAPI: a response model would validate each answer once more.
"""

import orjson
from fastapi import FastAPI, Response
from flights_model import FlightsModel, Record

app = FastAPI()
model = FlightsModel()


@app.post("/v1/classify")
async def classify(record: Record) -> Response:
    """One record."""
    return Response(orjson.dumps(model.classify([record])[0]), media_type="application/json")


@app.post("/v1/classify-many")
async def classify_many(records: list[Record]) -> Response:
    """A list of records."""
    return Response(orjson.dumps(model.classify(records)), media_type="application/json")
