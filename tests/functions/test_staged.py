"""The functions as they are deployed: from the staged folder, by the functions framework, over real protocols."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.runtime.datastore import entity, path
from schemas import Classification, ModelPointer, use_case
from tests.functions.doubles import envelopes, models
from tests.functions.doubles.bucket import Bucket
from tests.functions.doubles.function_process import FunctionProcess, stage
from tests.functions.doubles.google_server import GoogleServer

CASE = use_case("flights")
BUCKET = "local-dev-models"


class Cloud:
    """Datastore, Pub/Sub and a bucket, and what an operator does with them."""

    def __init__(self, google: GoogleServer, bucket: Bucket, folder: Path) -> None:
        self.google = google
        self.bucket = bucket
        self._folder = folder

    def function(self, unit: str, entry_point: str) -> FunctionProcess:
        """A function that talks to this cloud."""
        variables = {
            "PROJECT": "local-dev",
            "MODELS_BUCKET": BUCKET,
            "DATASTORE_ENDPOINT": self.google.endpoint,
            "PUBSUB_ENDPOINT": self.google.endpoint,
            "STORAGE_EMULATOR_HOST": self.bucket.url,
        }
        return FunctionProcess(stage(unit, self._folder / unit), entry_point, variables)

    def promote(self, generation: int, bias: float, spoil: str = "", **how: Any) -> ModelPointer:
        """Put a model that always answers ``bias`` into the bucket and move the pointer to it."""
        golden = [{"features": models.FEATURES, "probability": how.pop("golden", bias)}]
        files = models.folder(CASE, run_id=f"run-{generation}", bias=bias, golden=golden, **how)
        pointer = models.pointer(files, generation)
        for name, content in files.items():
            spoilt = content[:-1] + b"\x00" if name == spoil else content
            self.bucket.files[f"{BUCKET}/models/{pointer.model_version}/{name}"] = spoilt
        stored = entity("local-dev", "ModelPointer", CASE.name, pointer.model_dump())
        self.google.entities[path(stored.key)] = stored
        return pointer


@pytest.fixture
def scene(google: GoogleServer, tmp_path: Path):
    """Runs a scenario in a cloud."""

    def run(scenario: Any) -> None:
        async def main() -> None:
            await google.start()
            try:
                with Bucket().serving() as bucket:
                    await asyncio.wait_for(scenario(Cloud(google, bucket, tmp_path)), 90)
            finally:
                await google.stop()

        asyncio.run(main())

    return run


async def started(function: FunctionProcess) -> None:
    """Start it while the cloud goes on serving."""
    await asyncio.to_thread(function.start)


async def generation(client: httpx.AsyncClient, wanted: int) -> httpx.Response:
    """Ask until the model of this generation answers."""
    while True:
        answer = await client.post("/v1/classify", json=models.record())
        if answer.status_code == 200 and answer.json()["generation"] == wanted:
            return answer
        await asyncio.sleep(0.05)


async def trouble(client: httpx.AsyncClient, words: str) -> None:
    """Ask until the function says that this is wrong."""
    while True:
        if words in str((await client.get("/v1/model")).json()["trouble"]):
            return
        await asyncio.sleep(0.05)


def test_a_switch_under_load_fails_no_request(scene):
    """503 before the first model; then every request is answered by exactly one model through a promotion, a
    model with a flipped bit, one that misses its golden row, Datastore away, and a rollback."""

    async def scenario(cloud: Cloud) -> None:
        function = cloud.function("classify", "classify_http")
        await started(function)
        biases = {1: 0.125, 2: 0.25, 5: 0.5, 6: 0.125}
        seen: list[int] = []
        wrong: list[str] = []

        async def load(client: httpx.AsyncClient) -> None:
            while True:
                answer = await client.post("/v1/classify", json=[models.record("a"), models.record("b")])
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                answers = answer.json()
                seen.append(answers[0]["generation"])
                if {(item["generation"], item["probability"]) for item in answers} != {
                    (answers[0]["generation"], biases[answers[0]["generation"]])
                }:
                    wrong.append(answer.text)

        try:
            async with httpx.AsyncClient(base_url=function.url, timeout=10) as client:
                answer = await client.post("/v1/classify", json=models.record())
                assert answer.status_code == 503
                assert answer.json()["detail"] == "no model has been promoted yet"

                first = cloud.promote(1, biases[1])
                given = Classification.model_validate_json((await generation(client, 1)).content)
                assert given.model_version == first.model_version
                callers = [asyncio.create_task(load(client)) for _ in range(4)]
                cloud.promote(2, biases[2])
                await generation(client, 2)
                cloud.promote(3, 0.9, spoil="model.onnx")
                await trouble(client, "SHA-256")
                cloud.promote(4, 0.9, golden=0.8)
                await trouble(client, "golden row 0")
                await cloud.google.stop()
                await trouble(client, "out of reach")
                cloud.promote(5, biases[5])
                await cloud.google.restart()
                await generation(client, 5)
                rollback = first.model_copy(update={"generation": 6})
                stored = entity("local-dev", "ModelPointer", CASE.name, rollback.model_dump())
                cloud.google.entities[path(stored.key)] = stored
                await generation(client, 6)
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)
            assert wrong == []
            assert seen == sorted(seen), "no answer by an older model after a newer one"
            assert set(seen) == {1, 2, 5, 6}
            lines = [json.loads(line) for line in function.log().splitlines() if line.startswith("{")]
            refused = [line for line in lines if line["message"] == "model is not served"]
            assert {line["generation"] for line in refused} == {3, 4}
            assert {line["severity"] for line in refused} == {"ERROR"}
        finally:
            function.stop()

    scene(scenario)


def test_pushed_records_are_classified_stored_and_published(scene):
    """Three hundred records and three that cannot be read, all at once and twice each: the same answers."""

    async def scenario(cloud: Cloud) -> None:
        cloud.promote(1, 0.75)
        bodies = [envelopes.push(models.record(f"r{i}"), f"m{i}") for i in range(300)]
        bodies += [b"{}", envelopes.push(b"x"), envelopes.push(models.record("bad", distance=-1))]
        function = cloud.function("classify", "classify_push")
        await started(function)
        try:
            limits = httpx.Limits(max_connections=20)
            async with httpx.AsyncClient(base_url=function.url, timeout=20, limits=limits) as client:
                for _ in range(2):
                    answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
                    assert {answer.status_code for answer in answers} == {204}
                    stored = cloud.google.stored("Classification")
                    assert set(stored) == {f"r{i}" for i in range(300)}
            published = [
                Classification.model_validate_json(data) for data, _ in cloud.google.messages("classifications")
            ]
            assert len(published) == 600
            assert all(item == Classification.model_validate(stored[item.record_id]) for item in published)
            assert len(cloud.google.messages("dead-letters")) == 6
        finally:
            function.stop()

    scene(scenario)


def test_pushed_records_are_mirrored(scene):
    """Three hundred records from Pub/Sub, with Datastore away in the middle: what got a 204 is stored."""

    async def scenario(cloud: Cloud) -> None:
        function = cloud.function("ingest_fast", "ingest_fast")
        await started(function)
        try:
            limits = httpx.Limits(max_connections=20)
            acknowledged: set[str] = set()
            refused = 0

            async def push(client: httpx.AsyncClient, name: str) -> None:
                nonlocal refused
                while name not in acknowledged:
                    answer = await client.post(
                        "/projects/local-dev/topics/records", content=envelopes.push(models.record(name))
                    )
                    if answer.status_code == 204:
                        acknowledged.add(name)
                        assert name in cloud.google.stored("Record")
                    else:
                        assert answer.status_code == 503
                        refused += 1
                        await asyncio.sleep(0.1)

            async with httpx.AsyncClient(base_url=function.url, timeout=20, limits=limits) as client:
                await asyncio.gather(*(push(client, f"a{i}") for i in range(150)))
                await cloud.google.stop()
                later = asyncio.gather(*(push(client, f"b{i}") for i in range(150)))
                while not refused:  # noqa: ASYNC110 - set by the tasks above
                    await asyncio.sleep(0.05)
                await cloud.google.restart()
                await later
            names = {f"{letter}{i}" for letter in "ab" for i in range(150)}
            assert set(cloud.google.stored("Record")) == acknowledged == names
        finally:
            function.stop()

    scene(scenario)


@pytest.mark.parametrize(
    ("unit", "entry_point"), [("ingest_fast", "ingest_fast"), ("classify", "classify_push"), ("submit", "submit")]
)
def test_a_bad_setting_ends_the_process_at_its_start(tmp_path, unit, entry_point):
    """A deployment with a missing variable never serves; the last line of the log names the variable."""
    function = FunctionProcess(stage(unit, tmp_path / unit), entry_point, {"MODELS_BUCKET": "bucket"})
    function.start(wait=False)
    try:
        assert function.ended() != 0
        assert "environment variable PROJECT is not set" in function.log().splitlines()[-1]
    finally:
        function.stop()
