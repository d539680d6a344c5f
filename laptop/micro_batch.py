"""A Beam runner for one machine that loses nothing: pull, run the pipeline on what was pulled, then acknowledge.

Beam's own local runner acknowledges a message before it is processed, so what a crash interrupts is gone. This one
runs the same streaming pipeline, unchanged, as a row of bounded batches: a batch's messages are acknowledged when the
whole batch has gone through every transform. A batch that fails is not acknowledged; Pub/Sub delivers it again.

Chosen by Beam's own option: ``--runner=laptop.micro_batch.MicroBatchRunner``. A pipeline without a Pub/Sub source is
run once, to its end.
"""

import logging
import queue
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import Pipeline, PTransformOverride
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms import environments
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import PullResponse

log = logging.getLogger(__name__)

BATCH_MESSAGES = 20_000
BATCH_BYTES = 32 * 1024 * 1024
PULL_MESSAGES = 1000
PULLS_IN_FLIGHT = 2
"""For each subscription."""
LINGER_SECONDS = 0.25
"""How long a batch that is not full waits for more."""
EXTEND_EVERY_SECONDS = 20
LEASE_SECONDS = 60
BACKOFF_SECONDS = (1.0, 30.0)

Received = Any
"""A plain ``google.pubsub.v1.ReceivedMessage``."""


class MicroBatchRunner(PipelineRunner):
    """See the module's text."""

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        """Run until SIGTERM or SIGINT, or, without a Pub/Sub source, until the end."""
        sources = _ReplacePubSub()
        pipeline.replace_all([sources])
        runner = FnApiRunner()
        if not sources.subscriptions:
            return runner.run_pipeline(pipeline, options)
        # The graph is the same for each batch; what differs is what the replaced source finds.
        environment = environments.EmbeddedPythonEnvironment.default()
        proto = pipeline.to_runner_api(default_environment=environment)
        loop = _Loop(sources.subscriptions, lambda: _run_once(proto, options))
        return loop.run()


def _run_once(proto: Any, options: PipelineOptions) -> None:
    copy = type(proto)()
    copy.CopyFrom(proto)  # the runner rewrites the graph it is given
    result = FnApiRunner().run_via_runner_api(copy, options)
    if result.wait_until_finish() != PipelineState.DONE:
        raise RuntimeError(f"the batch ended as {result.state}")


# --- the source

_batch: dict[str, list[Received]] = {}
"""What the running batch reads, by subscription. The transforms run in this process, so nothing is copied."""


class _Emit(beam.DoFn):
    """Emits the running batch's messages with their publish time."""

    def __init__(self, subscription: str, with_attributes: bool) -> None:
        self._subscription = subscription
        self._with_attributes = with_attributes

    def process(self, _: bytes) -> Iterator[WindowedValue]:
        whole = (GlobalWindow(),)
        for received in _batch.get(self._subscription, ()):
            message = received.message
            published = message.publish_time
            stamp = Timestamp(micros=published.seconds * 1_000_000 + published.nanos // 1000)
            if not self._with_attributes:
                yield WindowedValue(message.data, stamp, whole)
                continue
            element = PubsubMessage(
                message.data, dict(message.attributes), message.message_id, published, message.ordering_key
            )
            yield WindowedValue(element, stamp, whole)


class _Pulled(beam.PTransform):
    """Stands where ``ReadFromPubSub`` stood."""

    def __init__(self, subscription: str, with_attributes: bool) -> None:
        super().__init__()
        self._subscription = subscription
        self._with_attributes = with_attributes

    def expand(self, begin: Any) -> beam.PCollection:
        """Impulse, then this batch's messages, in one fused stage."""
        emit = beam.ParDo(_Emit(self._subscription, self._with_attributes))
        return begin | beam.Impulse() | emit.with_output_types(PubsubMessage if self._with_attributes else bytes)


class _ReplacePubSub(PTransformOverride):
    def __init__(self) -> None:
        self.subscriptions: list[str] = []

    def matches(self, applied_ptransform: Any) -> bool:
        return isinstance(applied_ptransform.transform, ReadFromPubSub)

    def get_replacement_transform_for_applied_ptransform(self, applied_ptransform: Any) -> beam.PTransform:
        transform = applied_ptransform.transform
        source = transform._source
        if source.subscription_name:
            path = f"projects/{source.project}/subscriptions/{source.subscription_name}"
        else:
            raise ValueError(
                f"{applied_ptransform.full_label} reads from a topic: name a subscription, or nothing would keep "
                "the messages while the pipeline is not running"
            )
        if source.timestamp_attribute:
            raise ValueError(f"{applied_ptransform.full_label}: timestamp_attribute is not supported by this runner")
        if path not in self.subscriptions:
            self.subscriptions.append(path)
        return _Pulled(path, transform.with_attributes)


# --- the loop


@dataclass
class _Batch:
    messages: dict[str, list[Received]] = field(default_factory=dict)
    count: int = 0
    size: int = 0

    def add(self, subscription: str, pulled: list[Received]) -> None:
        self.messages.setdefault(subscription, []).extend(pulled)
        self.count += len(pulled)
        self.size += sum(len(one.message.data) for one in pulled)

    @property
    def full(self) -> bool:
        return self.count >= BATCH_MESSAGES or self.size >= BATCH_BYTES


class _Leases:
    """Keeps the messages that are held from being delivered again while they are worked on."""

    def __init__(self, client: SubscriberClient) -> None:
        self._client = client
        self._held: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def hold(self, subscription: str, ids: list[str]) -> None:
        with self._lock:
            self._held.setdefault(subscription, set()).update(ids)

    def release(self, subscription: str, ids: list[str]) -> None:
        with self._lock:
            self._held.get(subscription, set()).difference_update(ids)

    def extend_until(self, stopped: threading.Event) -> None:
        while not stopped.wait(EXTEND_EVERY_SECONDS):
            with self._lock:
                held = {subscription: list(ids) for subscription, ids in self._held.items()}
            for subscription, ids in held.items():
                for start in range(0, len(ids), PULL_MESSAGES):
                    try:
                        self._client.modify_ack_deadline(
                            subscription=subscription,
                            ack_ids=ids[start : start + PULL_MESSAGES],
                            ack_deadline_seconds=LEASE_SECONDS,
                        )
                    except (GoogleAPICallError, RetryError) as error:
                        # A lease that runs out only means that a message comes twice.
                        log.warning("could not extend %s leases of %s: %s", len(ids), subscription, error)


class _Loop:
    def __init__(self, subscriptions: list[str], run: Any) -> None:
        self._subscriptions = subscriptions
        self._run = run
        self._client = SubscriberClient()
        self._stopped = threading.Event()
        self._leases = _Leases(self._client)
        # A small queue: it holds the next batch while one is worked on, and no more.
        depth = max(2, BATCH_MESSAGES // PULL_MESSAGES)
        self._pulled: queue.Queue[tuple[str, list[Received]]] = queue.Queue(maxsize=depth)

    def run(self) -> "_Ended":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._stopped.set())
        threads = [
            threading.Thread(target=self._pull_forever, args=(subscription,), name=f"pull {subscription}", daemon=True)
            for subscription in self._subscriptions
            for _ in range(PULLS_IN_FLIGHT)
        ]
        threads.append(
            threading.Thread(target=self._leases.extend_until, args=(self._stopped,), name="leases", daemon=True)
        )
        for thread in threads:
            thread.start()
        log.info("reading %s", ", ".join(self._subscriptions))
        failures = 0
        while not self._stopped.is_set():
            batch = self._next_batch()
            if not batch.count:
                continue
            started = time.monotonic()
            try:
                _batch.clear()
                _batch.update(batch.messages)
                self._run()
            except Exception:
                failures += 1
                pause = min(BACKOFF_SECONDS[1], BACKOFF_SECONDS[0] * 2 ** min(failures - 1, 10))
                log.exception("a batch of %d messages failed and will come again; next in %.0f s", batch.count, pause)
                self._give_back(batch)
                self._stopped.wait(pause)
                continue
            finally:
                _batch.clear()
            failures = 0
            self._acknowledge(batch)
            log.info("%d messages in %.2f s", batch.count, time.monotonic() - started)
        return _Ended()

    def _next_batch(self) -> _Batch:
        batch = _Batch()
        deadline: float | None = None
        while not batch.full and not self._stopped.is_set():
            wait = 0.5 if deadline is None else deadline - time.monotonic()
            if wait <= 0:
                break
            try:
                subscription, pulled = self._pulled.get(timeout=wait)
            except queue.Empty:
                break
            batch.add(subscription, pulled)
            deadline = deadline or time.monotonic() + LINGER_SECONDS
        return batch

    def _pull_forever(self, subscription: str) -> None:
        pause = BACKOFF_SECONDS[0]
        while not self._stopped.is_set():
            try:
                response = self._client.pull(
                    subscription=subscription, max_messages=PULL_MESSAGES, timeout=30, retry=None
                )
                pause = BACKOFF_SECONDS[0]
            except (GoogleAPICallError, RetryError) as error:
                if error.__class__.__name__ == "DeadlineExceeded":
                    continue  # nothing came
                log.warning("cannot pull from %s, again in %.0f s: %s", subscription, pause, error)
                self._stopped.wait(pause)
                pause = min(BACKOFF_SECONDS[1], pause * 2)
                continue
            pulled = list(PullResponse.pb(response).received_messages)
            if pulled:
                self._leases.hold(subscription, [one.ack_id for one in pulled])
                self._pulled.put((subscription, pulled))

    def _acknowledge(self, batch: _Batch) -> None:
        for subscription, messages in batch.messages.items():
            ids = [one.ack_id for one in messages]
            self._leases.release(subscription, ids)
            for start in range(0, len(ids), 2500):  # a request is limited to 512 KiB
                try:
                    self._client.acknowledge(subscription=subscription, ack_ids=ids[start : start + 2500])
                except (GoogleAPICallError, RetryError) as error:
                    # They come again and are written to the same objects or to a second one; readers drop duplicates.
                    log.warning("could not acknowledge %d messages of %s: %s", len(ids), subscription, error)

    def _give_back(self, batch: _Batch) -> None:
        for subscription, messages in batch.messages.items():
            self._leases.release(subscription, [one.ack_id for one in messages])


class _Ended(PipelineResult):
    """A stream that was asked to stop."""

    def __init__(self) -> None:
        super().__init__(PipelineState.DRAINED)

    def wait_until_finish(self, duration: int | None = None) -> str:
        return PipelineState.DRAINED
