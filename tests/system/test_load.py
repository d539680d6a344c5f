"""From idle to beyond what a function may take, and back: Pub/Sub holds what has no room, callers are told to wait."""

import io
import json
import os
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.iam.v1 import policy_pb2

from laptop import secret
from laptop.identity import Identity
from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.settings import load
from tests.support import eventually

SECONDS = 0.1
SOURCE = f"""
import asyncio, os, pathlib
import functions_framework.aio
from starlette.responses import JSONResponse

SEEN = pathlib.Path(os.environ["SEEN"])

@functions_framework.aio.http
async def slow(request):
    body = await request.json()
    await asyncio.sleep({SECONDS})
    if "message" in body:
        (SEEN / body["message"]["messageId"]).touch()
    return JSONResponse({{}})
"""
CONCURRENCY, INSTANCES = 2, 2
MOST = min(INSTANCES, os.cpu_count() or 1)
"""A laptop runs at most one instance for each core."""
MESSAGES, CALLS = 300, 120


def packed() -> bytes:
    """The function's source."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("main.py", SOURCE)
        archive.writestr("requirements.txt", "functions-framework\n")
    return content.getvalue()


@pytest.mark.system
def test_nothing_is_lost_beyond_the_limit_and_the_backlog_drains(tmp_path: Path, monkeypatch) -> None:
    """Four requests at a time have room. With a backlog in Pub/Sub and many callers at once the instances come up to
    their maximum and no further; a caller without room gets 429 with Retry-After, a push is repeated; in the end every
    message was taken and everybody is answered again."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "")  # the clients set it; it is put back afterwards
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")
    seen = tmp_path / "seen"
    seen.mkdir()
    with Supervisor(tmp_path / "state", ["pubsub", "storage", "functions"]) as servers:
        servers.wait_ready()
        endpoints = tmp_path / "state" / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        clients.storage.create_bucket("local-dev-build").blob("slow.zip").upload_from_string(packed())
        function = {
            "build_config": {
                "runtime": "python311",
                "entry_point": "slow",
                "source": {"storage_source": {"bucket": "local-dev-build", "object_": "slow.zip"}},
            },
            "service_config": {
                "max_instance_count": INSTANCES,
                "max_instance_request_concurrency": CONCURRENCY,
                "timeout_seconds": 2,  # here also how long a request waits for room
                "environment_variables": {"SEEN": str(seen)},
            },
        }
        made = clients.functions.create_function(parent=clients.location, function_id="slow", function=function).result(
            timeout=60
        )
        member = f"push@{clients.project}.iam.gserviceaccount.com"
        policy = policy_pb2.Policy(
            bindings=[policy_pb2.Binding(role="roles/run.invoker", members=[f"serviceAccount:{member}"])]
        )
        clients.functions.set_iam_policy(request={"resource": made.name, "policy": policy})
        token = Identity(tmp_path / "state").token(member, made.url)

        def ask() -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            request = urllib.request.Request(made.url, data=b"{}", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return response.status, None
            except urllib.error.HTTPError as error:
                return error.code, error.headers["Retry-After"]

        def instances() -> int:
            url = f"{servers.endpoints['functions']['http']}/_laptop/functions"
            request = urllib.request.Request(url, headers=secret.headers(servers.state))
            with urllib.request.urlopen(request, timeout=10) as response:
                (found,) = json.load(response)
            return len(found["instances"])

        assert ask() == (200, None)
        assert instances() == 1
        publisher, subscriber = PublisherClient(), SubscriberClient()
        topic = f"projects/{clients.project}/topics/records"
        publisher.create_topic(name=topic)
        subscriber.create_subscription(
            request={
                "name": f"projects/{clients.project}/subscriptions/slow",
                "topic": topic,
                "push_config": {
                    "push_endpoint": made.url,
                    "oidc_token": {"service_account_email": member, "audience": made.url},
                },
                "ack_deadline_seconds": 60,
                "retry_policy": {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
            }
        )
        futures = [publisher.publish(topic, b"x") for _ in range(MESSAGES)]
        published = {future.result(30) for future in futures}
        eventually(lambda: instances() == MOST, 20, "a second instance starts")
        with ThreadPoolExecutor(CALLS) as pool:
            answers = [future.result() for future in [pool.submit(ask) for _ in range(CALLS)]]
        assert {status for status, _ in answers} == {200, 429}
        assert {after for status, after in answers if status == 429} == {"1"}
        assert instances() == MOST
        eventually(lambda: {path.name for path in seen.iterdir()} == published, 60, "the backlog drains")
        assert ask() == (200, None)
        subscriber.close()
