"""What Google puts before and around the functions, rehearsed: doors, sleep, handshakes, attempts that fail or repeat.

The laptop alone is kinder than Cloud Run: its processes never sleep, its connections are plaintext on one machine, and
each attempt of its scheduler succeeds. Here every function is deployed from its staged zip behind a front end that
keeps Cloud Run's paths for itself, on servers of its own, and then meets what it will meet there.
"""

import json
import os
import re
import signal
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import requests
from google.api_core.exceptions import GoogleAPICallError

from laptop import secret
from laptop.identity import Identity
from laptop.ports import HOST
from laptop.supervisor import Supervisor
from lunation import model_pointer
from lunation.clients import Clients
from lunation.deploy.accounts import account
from lunation.deploy.names import CLASSIFY_HTTP, SCHEDULER_JOB, models_bucket
from lunation.deploy.plan import apply
from lunation.deploy.table import resources
from lunation.settings import Settings, load
from rehearsal import small_model
from rehearsal.handshakes import SlowHandshakes
from schemas import use_case

SERVICES = ("pubsub", "datastore", "storage", "workflows", "scheduler", "functions")
PUSHED = ("ingest-fast", "classify")
ASKED = (CLASSIFY_HTTP, "submit")
IDS = ("front-door", "fuzz")
"""Of a record: an ordinary one, and one that ends as a path must not."""
REQUEST_SECONDS = 3
"""What a request may take: little, so that an instance need not sleep for long to sleep longer."""
ASLEEP_SECONDS = 4.5
AT_ONCE = 4
HANDSHAKE_SECONDS = 1.0
ACK_SECONDS = 10
PATIENCE_SECONDS = 20.0
Say = Callable[[str], None]
Faults = list[str]


def front_door(folder: Path, say: Say = lambda _: None) -> Faults:
    """What does not hold: a line for each fault, none if all is well. Takes about half a minute.

    Asked is, of every function, each path of its OpenAPI document and its health, or a push; whether a worker is killed
    for having slept, and what was asked in its sleep is answered; whether a connection is made through a slow TLS
    handshake; whether a cycle is started although the first attempt of the scheduler meets a 503; and whether a push
    that comes again while the first one is still being answered leaves one classification, one answer and no message.

    Args:
        folder: for the servers' state; must be empty or not there yet.
        say: is told what is being done.

    Raises:
        lunation.deploy.plan.ApplyError: the deployment failed.
        laptop.supervisor.SupervisorError: a server did not start.
    """
    settings = load()
    state = folder / "state"
    with _variables_kept(), Supervisor(state, SERVICES) as servers:
        servers.wait_ready()
        # The cluster of a cycle is not rehearsed: that the cycle is claimed is enough.
        nowhere = {"http": f"http://{HOST}:9", "grpc": f"{HOST}:9"}
        endpoints = folder / "endpoints.json"
        endpoints.write_text(json.dumps({**servers.endpoints, "dataproc": nowhere}))
        target = settings.target("laptop").model_copy(update={"endpoints": endpoints.resolve()})
        return _Door(_hurried(settings), Clients(target), servers.endpoints, state, say).judge()


def _hurried(settings: Settings) -> Settings:
    sizes = {name: size.model_copy(update={"timeout_seconds": REQUEST_SECONDS}) for name, size in settings.functions}
    return settings.model_copy(update={"functions": settings.functions.model_copy(update=sizes)})


class _Door:
    def __init__(
        self, settings: Settings, clients: Clients, endpoints: dict[str, dict[str, str]], state: Path, say: Say
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._endpoints = endpoints
        self._state = state
        self._identity = Identity(state)
        self._say = say
        self._case = use_case(settings.use_case)
        self._record: dict[str, Any] = {
            "record_id": "rehearsal",
            "event_time": "2013-01-01T10:15:00Z",
            "features": dict(self._case.example_features),
        }
        self._urls: dict[str, str] = {}

    def judge(self) -> Faults:
        self._say("deploy the functions behind a front end that keeps Cloud Run's paths")
        self._deploy()
        self._say("ask for every path of every function")
        found = self._every_path()
        self._say(f"let every instance sleep for {ASLEEP_SECONDS:g} s, longer than a request may take")
        found += self._asleep()
        self._say("connect through slow handshakes, let an attempt of the scheduler fail, let a push come again")
        with ThreadPoolExecutor() as pool:
            steps = [pool.submit(step) for step in (self._slow_handshake, self._failed_attempt, self._pushed_again)]
            return found + [fault for step in steps for fault in step.result()]

    def _deploy(self) -> None:
        rows = resources(self._settings, self._clients.target)
        apply([row for row in rows if row.service in SERVICES], self._clients)
        date, run_id = datetime.now(UTC).date().isoformat(), "front-door"
        bucket, features = self._clients.storage.bucket(models_bucket(self._clients.target)), self._record["features"]
        for name, content in small_model.files(self._case, features, bucket.name, date, run_id).items():
            bucket.blob(f"models/{date}/{run_id}/{name}").upload_from_string(content)
        model_pointer.promote(self._clients, self._case.name, f"{date}/{run_id}", "rehearsed")
        for function in (*PUSHED, *ASKED):
            found = self._clients.functions.get_function(name=self._path(function))
            self._urls[function] = found.service_config.uri

    # --- paths

    def _every_path(self) -> Faults:
        found: Faults = []
        for function in ASKED:
            document = self._ask(function, "GET", "/openapi.json")
            if not _by_the_function(document):
                found.append(f"{function}: GET /openapi.json: {_told(document)}")
                continue
            operations = list(operations_of(document.json()))
            if not any(operation.get("operationId") == "health" for _, _, operation in operations):
                found.append(f"{function}: its document has no operation for its health")
            for verb, path, operation in operations:
                for url in urls_of(path, operation):
                    answer = self._ask(function, verb, url, self._record if "requestBody" in operation else None)
                    told = f"{function}: {verb} {url}: {_told(answer)}"
                    if not _by_the_function(answer):
                        found.append(f"{told}: answered by the front end, the function never sees it")
                    elif str(answer.status_code) not in operation["responses"]:
                        found.append(f"{told}: not in its document")
        for function in PUSHED:
            answer = self._push(function, IDS[-1])
            if answer.status_code != 204:
                found.append(f"{function}: a push: {_told(answer)}")
        return found + self._where_it_was_said_to_be()

    def _where_it_was_said_to_be(self) -> Faults:
        """Whether a record that was submitted is found where the answer said."""
        answer = self._ask("submit", "POST", "/v1/records", {**self._record, "record_id": IDS[-1]})
        where = answer.headers.get("location", "")
        found = self._eventually(lambda: self._ask("submit", "GET", where).status_code == 200)
        return [] if found else [f"submit: {IDS[-1]} is not at {where}, where its answer said it would be"]

    # --- sleep

    def _asleep(self) -> Faults:
        found: Faults = []
        before = self._workers()
        groups = [one["pid"] for instances in self._instances().values() for one in instances]
        with ThreadPoolExecutor(AT_ONCE * len(self._urls)) as pool:
            for group in groups:
                os.killpg(group, signal.SIGSTOP)
            time.sleep(ASLEEP_SECONDS)
            answers = {name: [pool.submit(self._wake, name) for _ in range(AT_ONCE)] for name in self._urls}
            for group in groups:
                os.killpg(group, signal.SIGCONT)
            for name, asked in answers.items():
                wrong = [told for told in (one.result() for one in asked) if told]
                if wrong:
                    found.append(f"{name}: {len(wrong)} of {AT_ONCE} requests that woke it failed: {wrong[0]}")
        time.sleep(1.5)  # who watches over a worker looks once a second
        after = self._workers()
        return found + [
            f"{name}: its worker was killed for having slept" for name in before if before[name] != after[name]
        ]

    def _wake(self, function: str) -> str:
        """What is wrong with the answer of a function that is just waking up; nothing, if nothing is.

        What needs no other service: whether it comes in time is not to hang on how busy this machine is.
        """
        try:
            answer = self._ask(function, "GET", "/openapi.json", caller="push" if function in PUSHED else "caller")
            whole = isinstance(answer.json(), dict)  # a function for pushes says that it takes no other requests
            return "" if whole and answer.status_code == (405 if function in PUSHED else 200) else _told(answer)
        except (requests.RequestException, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _instances(self) -> dict[str, list[dict[str, Any]]]:
        described = requests.get(
            f"{self._endpoints['functions']['http']}/_laptop/functions", headers=secret.headers(self._state), timeout=10
        ).json()
        return {one["name"].rsplit("/", 1)[1]: one["instances"] for one in described}

    def _workers(self) -> dict[str, list[int]]:
        """The processes that answer, by function: children of those that watch over them."""
        return {
            name: sorted(child.pid for one in instances for child in psutil.Process(one["pid"]).children())
            for name, instances in self._instances().items()
        }

    # --- handshakes

    def _slow_handshake(self) -> Faults:
        target = self._endpoints["datastore"]["grpc"]
        with SlowHandshakes(target, self._state / "tls", HANDSHAKE_SECONDS) as front:
            self._change("submit", 60, DATASTORE_ENDPOINT=front.endpoint, **front.environment)
            answer = self._ask("submit", "GET", f"/v1/records?record_id={IDS[-1]}")
            if answer.status_code != 200:
                return [f"submit: Datastore behind a handshake of {HANDSHAKE_SECONDS:g} s: {_told(answer)}"]
            if front.accepted > 1:
                return [f"submit: {front.accepted} connections for one handshake of {HANDSHAKE_SECONDS:g} s"]
        return []

    # --- the scheduler

    def _failed_attempt(self) -> Faults:
        job = self._clients.scheduler.get_job(name=f"{self._clients.location}/jobs/{SCHEDULER_JOB}")
        if job.retry_config.retry_count:  # its pauses are minutes, which need not be waited for here
            job.retry_config.min_backoff_duration = {"seconds": 1}
            job.retry_config.max_backoff_duration = {"seconds": 1}
            paths = ["retry_config.min_backoff_duration", "retry_config.max_backoff_duration"]
            self._clients.scheduler.update_job(request={"job": job, "update_mask": {"paths": paths}})
        fault = self._fault("workflows", rpc="google.cloud.workflows.executions.v1.Executions.CreateExecution")
        self._clients.scheduler.run_job(name=job.name)
        if not self._eventually(lambda: self._fired("workflows", fault)):
            return [f"{SCHEDULER_JOB}: no attempt was made"]
        if not self._eventually(lambda: list(self._clients.datastore.query(kind="TrainingRun").fetch())):
            return [f"{SCHEDULER_JOB}: one 503 of the Executions API, and the cycle was not started"]
        return []

    # --- a push that comes again

    def _pushed_again(self) -> Faults:
        """The first push cannot publish its answer for longer than Pub/Sub waits; the second one can."""
        self._change("classify", 60)
        record_id = f"again-{uuid.uuid4().hex[:8]}"
        clients, project = self._clients, self._clients.project
        topic, subscription = f"projects/{project}/topics/front-door", f"projects/{project}/subscriptions/front-door"
        clients.publisher.create_topic(name=topic)
        clients.subscriber.create_subscription(
            request={"name": subscription, "topic": topic, "ack_deadline_seconds": ACK_SECONDS}
        )
        data = json.dumps({**self._record, "record_id": record_id}).encode()
        clients.publisher.publish(topic, data).result(timeout=30)
        # Three attempts of four seconds each; the next call goes through.
        fault = self._fault(
            "pubsub", rpc="google.pubsub.v1.Publisher.Publish", action="delay", delay_seconds=60, times=3
        )
        url = self._urls["classify"]
        push = {"service_account_email": account(project, "push"), "audience": url}
        clients.subscriber.modify_push_config(
            request={"subscription": subscription, "push_config": {"push_endpoint": url, "oidc_token": push}}
        )
        answers: list[bytes] = []

        def answered() -> bool:
            answers.extend(one for one in self._reviewed() if json.loads(one)["record_id"] == record_id)
            return bool(answers)

        if not self._eventually(answered):
            return ["classify: a push that came again was never answered for"]
        time.sleep(3)  # until the first push, too, has come to its end
        answered()
        found: Faults = []
        if self._fired("pubsub", fault) < 3:
            found.append("classify: the first push was answered before the second one came; nothing is rehearsed")
        stored = clients.datastore.get(clients.datastore.key("Classification", record_id))
        if stored is None:
            found.append("classify: a push that came again left no classification")
        told = {json.dumps(json.loads(one), sort_keys=True) for one in answers}
        if len(told) > 1:
            found.append(f"classify: a push that came again was given {len(told)} answers: {'; '.join(sorted(told))}")
        elif stored is not None and json.loads(told.pop())["classified_at"] != stored["classified_at"].isoformat():
            found.append("classify: what was published for a push that came again is not what is stored")
        clients.subscriber.modify_push_config(request={"subscription": subscription, "push_config": {}})
        if self._pulled(subscription):
            found.append("classify: a push that came again was never acknowledged")
        return found

    def _reviewed(self) -> list[bytes]:
        return self._pulled(f"projects/{self._clients.project}/subscriptions/classifications-review")

    def _pulled(self, subscription: str) -> list[bytes]:
        request = {"subscription": subscription, "max_messages": 1000, "return_immediately": True}
        received = self._clients.subscriber.pull(request=request, timeout=10).received_messages
        if received:
            ids = [one.ack_id for one in received]
            self._clients.subscriber.acknowledge(subscription=subscription, ack_ids=ids)
        return [one.message.data for one in received]

    # --- helpers

    def _path(self, function: str) -> str:
        return f"{self._clients.location}/functions/{function}"

    def _ask(
        self, function: str, verb: str, path: str, document: Any = None, caller: str = "caller"
    ) -> requests.Response:
        url = self._urls[function]
        token = self._identity.token(account(self._clients.project, caller), url)
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(verb, url + path, json=document, headers=headers, timeout=60)

    def _push(self, function: str, record_id: str) -> requests.Response:
        data = b64encode(json.dumps({**self._record, "record_id": record_id}).encode()).decode()
        body = {"message": {"data": data, "messageId": record_id}, "subscription": "projects/p/subscriptions/s"}
        return self._ask(function, "POST", "/", body, caller="push")

    def _change(self, name: str, timeout_seconds: int, **variables: str) -> None:
        """Deploy a function anew."""
        function = self._clients.functions.get_function(name=self._path(name))
        function.service_config.timeout_seconds = timeout_seconds
        function.service_config.environment_variables.update(variables)
        request = {"function": function, "update_mask": {"paths": ["service_config"]}}
        self._clients.functions.update_function(request=request).result(timeout=120)

    def _fault(self, service: str, **fault: Any) -> str:
        """Set a fault at a laptop's server; its id."""
        address = f"{self._endpoints[service]['http']}/_laptop/faults"
        return str(requests.post(address, json=fault, headers=secret.headers(self._state), timeout=10).json()["id"])

    def _fired(self, service: str, fault: str) -> int:
        address = f"{self._endpoints[service]['http']}/_laptop/faults"
        found = requests.get(address, headers=secret.headers(self._state), timeout=10).json()
        return next(int(one["fired"]) for one in found if one["id"] == fault)

    def _eventually(self, look: Callable[[], Any]) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if look():
                    return True
            except (requests.RequestException, GoogleAPICallError):
                pass  # what is being waited for may be what makes it fail
            time.sleep(0.1)
        return False


def operations_of(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Verb, path and description of each operation in an OpenAPI document."""
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield verb.upper(), path, operation


def urls_of(path: str, operation: Any) -> Iterator[str]:
    """The path with everything filled in that a request needs, once for each id that the document allows there."""
    needed = [one for one in operation.get("parameters", []) if one["required"]]
    if not needed:
        yield path
    for one in needed:
        for record_id in IDS:
            if one["in"] == "query":
                yield f"{path}?{one['name']}={record_id}"
            elif _allowed(one["schema"], record_id):
                yield path.replace(f"{{{one['name']}}}", record_id)


def _allowed(schema: Any, text: str) -> bool:
    kept = schema.get("not", {}).get("pattern")
    return bool(re.search(schema["pattern"], text)) and not (kept and re.search(kept, text))


def _by_the_function(answer: requests.Response) -> bool:
    """Ours are JSON; the pages of a front end are not."""
    return "json" in answer.headers.get("content-type", "")


def _told(answer: requests.Response) -> str:
    return f"{answer.status_code} {' '.join(answer.text.split())[:200]}"


@contextmanager
def _variables_kept() -> Iterator[None]:
    """Clients tell Google's libraries by variables where a service is; others of this process mean other servers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
