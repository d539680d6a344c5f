"""A record gets the same answer alone, in a list and on a line: each way has its own code."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from functions.classify.handler import ClassifyHttp
from functions.classify.model import load_model
from functions.classify.reasons import Reasons
from functions.classify.serving import Serving
from schemas import ModelPointer, use_case
from schemas.shapes import model_inputs
from spark.export import to_onnx
from tests.functions.doubles import models
from tests.functions.test_same_inputs import KINDS, NAMES, expected, features, trees

CASE = use_case("flights")

numbers = st.one_of(
    st.none(),
    st.floats(0, 1439),
    st.integers(-5, 2000),
    st.sampled_from([0.0, -0.0, 1e300, -1e300, 5e-324, float("nan"), float("inf"), 10**400, True, "7", [1], {}]),
)
words = st.one_of(
    st.sampled_from([*models.CATEGORIES["carrier"], "EWR", "ATL", "ZZZ", "", "é", "\x00", "x" * 9, "\ud800"]),
    st.sampled_from([None, 5, True, ["UA"]]),
)
values = st.fixed_dictionaries(
    {}, optional={item.name: words if item.kind == "category" else numbers for item in model_inputs(CASE)}
)
documents = st.builds(
    lambda changes, dropped, top: {
        **{name: value for name, value in models.record().items() if name not in dropped},
        **top,
        **({} if "features" in dropped else {"features": models.FEATURES | changes}),
    },
    st.one_of(st.just({}), st.dictionaries(st.sampled_from(NAMES), numbers, max_size=2), values),
    st.one_of(st.just([]), st.lists(st.sampled_from(["record_id", "event_time", "features"]), max_size=1)),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {},
            optional={
                "record_id": st.sampled_from(["r-1", "", "a b", "é", 7, None, "x" * 129]),
                "event_time": st.sampled_from(
                    ["2013-03-02T15:00:00+05:30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2013-02-30", 7, ""]
                ),
                "more": st.sampled_from([None, {"deep": [1, {}]}]),
            },
        ),
    ),
)
GOOD = [{**models.record(f"r{number}"), "features": row} for number, row in enumerate(features(4, 50))]
lists = st.one_of(
    st.lists(st.sampled_from(GOOD), min_size=1, max_size=20),
    st.lists(st.one_of(documents, st.sampled_from(GOOD)), min_size=1, max_size=5),
)


@pytest.fixture(scope="module")
def function() -> ClassifyHttp:
    """``classify`` with a model of trees."""
    artefact = to_onnx(trees(1), len(NAMES), range(len(KINDS)), [])
    rows = features(3, 5)
    golden = [
        {"features": row, "probability": value} for row, value in zip(rows, expected(artefact, rows), strict=True)
    ]
    files = models.folder(CASE, model=artefact, golden=golden)
    named = models.pointer(files, 1)

    class Pointer:
        async def now(self) -> ModelPointer:
            return named

        async def at(self, generation: int) -> None:
            return None

    def load(wanted: Any, _: Any) -> Any:
        return load_model(CASE, wanted.model_version, wanted.manifest_sha256, files.__getitem__)

    return ClassifyHttp(CASE, Serving(Pointer(), load), Reasons(lambda _: files.__getitem__))


async def asked(function: ClassifyHttp, body: str, media_type: str = "application/json") -> tuple[int, Any]:
    """Status and document of the answer to a POST."""
    content = body.encode("utf-8", "surrogatepass")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", media_type.encode())],
    }
    answer = await function.handle(Request(scope, receive))
    text = bytes(answer.body).decode()
    if media_type != "application/json" and answer.status_code == 200:
        return 200, [json.loads(line) for line in text.splitlines()]
    return answer.status_code, json.loads(text)


def timeless(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers without the moment they were given; a probability is the same but for the order of a sum."""
    return [
        {**answer, "classified_at": None, "probability": pytest.approx(answer["probability"], abs=1e-14, rel=0)}
        for answer in answers
    ]


@settings(max_examples=120, deadline=None)
@given(lists)
def test_a_record_gets_the_same_answer_alone_and_among_others(function, records):
    """A list and lines answer each record as it is answered alone; if one is refused alone, they are refused, for
    the fields that are at fault alone. None of it is a fault of the service."""

    async def scenario() -> None:
        texts = [json.dumps(record) for record in records]
        alone = [await asked(function, text) for text in texts]
        together = [
            await asked(function, f"[{', '.join(texts)}]"),
            await asked(function, "\n".join([*texts, ""]), "application/x-ndjson"),
        ]
        assert {status for status, _ in alone} <= {200, 400, 422}
        for status, document in together:
            assert status in ({given for given, _ in alone} - {200} or {200})
            if status == 200:
                assert [{**answer, "classified_at": None} for answer in document] == timeless([one for _, one in alone])
            elif status == 422 and all(given != 400 for given, _ in alone):
                wrong = {
                    f"#/{number}{fault['pointer'][1:]}": fault["detail"]
                    for number, (given, answer) in enumerate(alone)
                    if given == 422
                    for fault in answer["errors"]
                }
                named = {fault["pointer"]: fault["detail"] for fault in document["errors"]}
                assert named == wrong or len(named) == 20

    asyncio.run(scenario())
