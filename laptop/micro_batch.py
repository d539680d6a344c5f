"""A Beam runner for one machine that loses nothing: pull, run the pipeline on what was pulled, then acknowledge.

Beam's own local runner acknowledges a message before it is processed, so what a crash interrupts is gone. This one
runs the same streaming pipeline, unchanged, as a row of bounded batches: a batch's messages are acknowledged when the
whole batch has gone through every transform. A batch that fails is not acknowledged; Pub/Sub delivers it again.

Chosen by Beam's own option: ``--runner=laptop.micro_batch.MicroBatchRunner``. A pipeline without a Pub/Sub source is
run once, to its end.

Each batch is a run of its own: windows end with it, and a bounded source beside the stream is read anew for each. What
needs more is refused: state, timers, panes that accumulate, another endless source.
"""

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.io.iobase import SourceBase
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import Pipeline, PipelineVisitor, PTransformOverride
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import GroupByKey, environments
from apache_beam.transforms.trigger import AccumulationMode
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, RetryError
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PullResponse

log = logging.getLogger(__name__)

BATCH_MESSAGES = 20_000
BATCH_BYTES = 32 * 1024 * 1024
PULL_MESSAGES = 1000
PULLS_IN_FLIGHT = 2
"""For each subscription."""
LINGER_SECONDS = 0.25
"""How long a batch that is not full waits for more."""
FEW_MESSAGES = 100
LINGER_OF_FEW_SECONDS = 5.0
"""How long one of few messages does while more keep coming: a batch costs 50 ms of a core, however little is in it."""
QUIET_SECONDS = 2.0
"""After so long without another message one of few waits no longer."""
PULL_PAUSE_SECONDS = 1.5
"""After a pull of few: whoever asks again at once is given one message at a time. They linger for longer anyway."""
EMPTY_PAUSE_SECONDS = 0.1
"""After a pull of nothing, which has waited at the server already."""
LEASE_SECONDS = 60
EXTEND_AFTER_SECONDS = (5.0, 20.0)
"""First, while the subscription's own deadline runs, which is 10 seconds at least; then."""
ACKNOWLEDGED_AT_ONCE = 2500
"""A request is limited to 512 KiB."""
BACKOFF_SECONDS = (1.0, 30.0)
PULL_END_SECONDS = 5.0
"""How long a drain waits for a pull that is ended; what one that does not end holds comes when its lease runs out."""

Received = Any
"""A plain ``google.pubsub.v1.ReceivedMessage``."""


class MicroBatchRunner(PipelineRunner):
    """See the module's text."""

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        """Run until SIGTERM or SIGINT, or, without a Pub/Sub source, until the end."""
        sources = _ReplacePubSub()
        pipeline.replace_all([sources])
        runner = FnApiRunner()
        _tell_kind("streaming" if sources.subscriptions else "batch")
        if not sources.subscriptions:
            return runner.run_pipeline(pipeline, options)
        pipeline.visit(_RefuseWhatOutlivesABatch())
        # The graph is the same for each batch; what differs is what the replaced source finds.
        environment = environments.EmbeddedPythonEnvironment.default()
        proto = pipeline.to_runner_api(default_environment=environment)
        loop = _Loop(sources.subscriptions, lambda: _run_once(proto, options))
        return loop.run()


def _tell_kind(kind: str) -> None:
    """Tell the Dataflow server, if it started this process, what kind of job this is: the pipeline decides."""
    path = os.environ.get("LAPTOP_DATAFLOW_KIND")
    if path:
        Path(path).write_text(kind)


def _run_once(proto: Any, options: PipelineOptions) -> None:
    copy = type(proto)()
    copy.CopyFrom(proto)  # the runner rewrites the graph it is given
    result = FnApiRunner().run_via_runner_api(copy, options)
    if result.wait_until_finish() != PipelineState.DONE:
        raise RuntimeError(f"the batch ended as {result.state}")


class _RefuseWhatOutlivesABatch(PipelineVisitor):
    """Raises NotImplementedError for a step that a row of batches would quietly do otherwise."""

    def visit_transform(self, transform_node: Any) -> None:
        label, transform = transform_node.full_label, transform_node.transform
        signature = getattr(transform, "_signature", None)
        source = getattr(transform, "source", None)
        if signature is not None and signature.is_stateful_dofn():
            raise NotImplementedError(f"{label}: it keeps state or timers, which would end with the batch")
        if isinstance(transform, TestStream) or (
            (signature is not None and signature.is_unbounded_per_element())
            or (isinstance(source, SourceBase) and not source.is_bounded())
        ):
            raise NotImplementedError(f"{label}: it is endless, and the only endless source here is Pub/Sub")
        if isinstance(transform, GroupByKey) and (
            transform_node.inputs[0].windowing.accumulation_mode == AccumulationMode.ACCUMULATING
        ):
            raise NotImplementedError(f"{label}: its panes accumulate, and each batch would begin anew")


# --- the source

_batch: dict[str, list[Received]] = {}
"""What the running batch reads, by subscription. The transforms run in this process, so nothing is copied."""


_read: set[str] = set()
"""The subscriptions whose messages have been emitted: a batch that no one has read is not acknowledged."""


class _Emit(beam.DoFn):
    """Emits the running batch's messages with their publish time."""

    def __init__(self, subscription: str, with_attributes: bool) -> None:
        self._subscription = subscription
        self._with_attributes = with_attributes

    def process(self, _: bytes) -> Iterator[WindowedValue]:
        whole = (GlobalWindow(),)
        _read.add(self._subscription)
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
        source = transform._source  # noqa: SLF001  # Beam's runners find a read's source there
        if source.subscription_name:
            path = f"projects/{source.project}/subscriptions/{source.subscription_name}"
        else:
            raise ValueError(
                f"{applied_ptransform.full_label} reads from a topic: name a subscription, or nothing would keep "
                "the messages while the pipeline is not running"
            )
        for option, reason in (
            ("timestamp_attribute", "an element's time is when it was published"),
            ("id_label", "no batch remembers the ids of those before it"),
        ):
            if getattr(source, option):
                raise NotImplementedError(f"{applied_ptransform.full_label}: this runner has no {option}: {reason}")
        if path not in self.subscriptions:
            self.subscriptions.append(path)
        return _Pulled(path, transform.with_attributes)


# --- the loop


@dataclass(eq=False)
class _Pull:
    """What one pull brought, and when its lease is to be extended."""

    subscription: str
    messages: list[Received]
    due: float

    @property
    def ids(self) -> list[str]:
        return [one.ack_id for one in self.messages]


@dataclass
class _Batch:
    pulls: list[_Pull] = field(default_factory=list)
    count: int = 0
    size: int = 0

    def add(self, pull: _Pull) -> None:
        self.pulls.append(pull)
        self.count += len(pull.messages)
        self.size += sum(len(one.message.data) for one in pull.messages)

    @property
    def full(self) -> bool:
        return self.count >= BATCH_MESSAGES or self.size >= BATCH_BYTES

    def by_subscription(self) -> dict[str, list[Received]]:
        found: dict[str, list[Received]] = {}
        for pull in self.pulls:
            found.setdefault(pull.subscription, []).extend(pull.messages)
        return found


class _Leases:
    """Keeps the messages that are held from being delivered again while they are worked on."""

    def __init__(self, client: SubscriberClient) -> None:
        self._client = client
        self._held: set[_Pull] = set()
        self._lock = threading.Lock()

    def hold(self, subscription: str, messages: list[Received]) -> _Pull:
        pull = _Pull(subscription, messages, time.monotonic() + EXTEND_AFTER_SECONDS[0])
        with self._lock:
            self._held.add(pull)
        return pull

    def release(self, pulls: list[_Pull]) -> None:
        with self._lock:
            self._held.difference_update(pulls)

    def give_back(self, pulls: list[_Pull] | None = None) -> None:
        """Have messages delivered again at once; all that are held, if none are named."""
        with self._lock:
            given = list(self._held) if pulls is None else pulls
            self._held.difference_update(given)
        for pull in given:
            self._modify(pull, 0)

    def extend_until(self, stopped: threading.Event) -> None:
        while not stopped.wait(1):
            now = time.monotonic()
            with self._lock:
                due = [pull for pull in self._held if pull.due <= now]
            for pull in due:
                pull.due = now + EXTEND_AFTER_SECONDS[1]
                self._modify(pull, LEASE_SECONDS)

    def _modify(self, pull: _Pull, seconds: int) -> None:
        try:
            self._client.modify_ack_deadline(
                subscription=pull.subscription, ack_ids=pull.ids, ack_deadline_seconds=seconds, timeout=10
            )
        except (GoogleAPICallError, RetryError) as error:
            # A lease that runs out only means that a message comes twice; one that is not given back runs out.
            log.warning("no lease of %d s for %d messages of %s: %s", seconds, len(pull.ids), pull.subscription, error)


def _subscriber() -> SubscriberClient:
    """Google's client, and every message gets through, as from the service.

    A message may have 10 MB. Towards the service the client takes any size, but only gRPC's 4 MiB where
    PUBSUB_EMULATOR_HOST directs it: compare client.py with transports/grpc.py in google/pubsub_v1/services/subscriber.
    """
    address = os.environ.get("PUBSUB_EMULATOR_HOST")
    if not address:
        return SubscriberClient()
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))


class _Loop:
    def __init__(self, subscriptions: list[str], run: Callable[[], None]) -> None:
        self._subscriptions = subscriptions
        self._run = run
        self._client = _subscriber()
        self._puller = _subscriber()  # of its own, so that closing it ends the pulls that wait
        self._stopped = threading.Event()
        self._leases = _Leases(self._client)
        # A small queue: it holds the next batch while one is worked on, and no more.
        self._pulled: queue.Queue[_Pull] = queue.Queue(maxsize=max(2, BATCH_MESSAGES // PULL_MESSAGES))

    def run(self) -> "_Ended":
        with self._stopped_by_signals():
            self._work()
        return _Ended()

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT drain: the batch that is under way is ended and acknowledged, no other is begun."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda *_: self._stopped.set()) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _work(self) -> None:
        pulls = [
            threading.Thread(target=self._pull_forever, args=(subscription,), name=f"pull {subscription}", daemon=True)
            for subscription in self._subscriptions
            for _ in range(PULLS_IN_FLIGHT)
        ]
        leases = threading.Thread(target=self._leases.extend_until, args=(self._stopped,), name="leases", daemon=True)
        for thread in (*pulls, leases):
            thread.start()
        log.info("reading %s", ", ".join(self._subscriptions))
        failures = 0
        while not self._stopped.is_set():
            batch = self._next_batch()
            if not batch.count or self._stopped.is_set():
                continue
            started = time.monotonic()
            try:
                self._process(batch.by_subscription())
            except Exception:
                failures += 1
                pause = min(BACKOFF_SECONDS[1], BACKOFF_SECONDS[0] * 2 ** min(failures - 1, 10))
                log.exception("a batch of %d messages failed and will come again; next in %.0f s", batch.count, pause)
                self._leases.give_back(batch.pulls)
                self._stopped.wait(pause)
                continue
            failures = 0
            self._acknowledge(batch)
            log.info("%d messages in %.2f s", batch.count, time.monotonic() - started)
        # First the pulls that wait: what is given back would be handed to them.
        self._puller.close()
        for thread in pulls:
            thread.join(PULL_END_SECONDS)
        self._leases.give_back()

    def _process(self, messages: dict[str, list[Received]]) -> None:
        _read.clear()
        _batch.update(messages)
        try:
            self._run()
        finally:
            _batch.clear()
        if unread := messages.keys() - _read:
            raise RuntimeError(f"the pipeline ran without reading what was pulled from {', '.join(sorted(unread))}")

    def _next_batch(self) -> _Batch:
        batch = _Batch()
        began = latest = 0.0
        while not batch.full and not self._stopped.is_set():
            if not batch.count:
                until = time.monotonic() + 0.5
            elif batch.count < FEW_MESSAGES:
                until = min(began + LINGER_OF_FEW_SECONDS, latest + QUIET_SECONDS)
            else:
                until = began + LINGER_SECONDS
            wait = until - time.monotonic()
            if wait <= 0:
                break
            try:
                batch.add(self._pulled.get(timeout=wait))
            except queue.Empty:
                break
            latest = time.monotonic()
            began = began or latest
        return batch

    def _pull_forever(self, subscription: str) -> None:
        pause = BACKOFF_SECONDS[0]
        while not self._stopped.is_set():
            try:
                response = self._puller.pull(
                    subscription=subscription, max_messages=PULL_MESSAGES, timeout=30, retry=None
                )
            except DeadlineExceeded:
                continue  # nothing came
            except Exception as error:  # whatever it is: a thread that ended would leave its subscription unread
                if self._stopped.is_set():
                    return
                log.warning("cannot pull from %s, again in %.0f s: %s", subscription, pause, error)
                self._stopped.wait(pause)
                pause = min(BACKOFF_SECONDS[1], pause * 2)
                continue
            pause = BACKOFF_SECONDS[0]
            messages = list(PullResponse.pb(response).received_messages)
            if messages:
                self._hand_over(self._leases.hold(subscription, messages))
            if not messages:
                self._stopped.wait(EMPTY_PAUSE_SECONDS)
            elif len(messages) < FEW_MESSAGES:
                self._stopped.wait(PULL_PAUSE_SECONDS)

    def _hand_over(self, pull: _Pull) -> None:
        """Wait for room in the queue; after the stop it is held only, and given back."""
        while not self._stopped.is_set():
            try:
                return self._pulled.put(pull, timeout=0.5)
            except queue.Full:
                continue

    def _acknowledge(self, batch: _Batch) -> None:
        self._leases.release(batch.pulls)
        for subscription, messages in batch.by_subscription().items():
            ids = [one.ack_id for one in messages]
            for start in range(0, len(ids), ACKNOWLEDGED_AT_ONCE):
                some = ids[start : start + ACKNOWLEDGED_AT_ONCE]
                try:
                    self._client.acknowledge(subscription=subscription, ack_ids=some)
                except (GoogleAPICallError, RetryError) as error:
                    # They come again and go through the pipeline a second time, as Pub/Sub may do with any message.
                    log.warning("could not acknowledge %d messages of %s: %s", len(some), subscription, error)


class _Ended(PipelineResult):
    """A stream that was asked to stop."""

    def __init__(self) -> None:
        super().__init__(PipelineState.DRAINED)

    def wait_until_finish(self, duration: int | None = None) -> str:
        return PipelineState.DRAINED
