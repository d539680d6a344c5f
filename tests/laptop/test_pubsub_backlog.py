"""The rules of delivery, with a clock that the test moves."""

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from laptop.pubsub.backlog import ENVELOPE_BYTES, Backlog, Delivery, Flow, Redelivery
from laptop.pubsub.intervals import Intervals


class Desk:
    """A backlog over messages in a dictionary, and its clock."""

    def __init__(self, wanted=None) -> None:  # type: ignore[no-untyped-def]
        self.now = 1000.0
        self.messages: dict[int, bytes] = {}
        self.wanted = wanted
        self.reads = 0
        self.settled = Intervals([(0, 0)])
        self.attempts: dict[int, int] = {}
        self.backlog = self.open()

    def open(self) -> Backlog:
        """A backlog as after a restart, from what was written down."""
        self.backlog = Backlog(
            Intervals(self.settled.ranges()), dict(self.attempts), self.read, self.wanted, lambda: self.now
        )
        self.backlog.published(max(self.messages, default=0))
        return self.backlog

    def read(self, after: int, until: int) -> Iterator[tuple[int, bytes]]:
        for sequence in range(after + 1, until + 1):
            if sequence in self.messages:
                self.reads += 1
                yield sequence, self.messages[sequence]

    def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            self.messages[max(self.messages, default=0) + 1] = body
        self.backlog.published(max(self.messages))

    def take(self, count: int = 100, seconds: float = 10, flow: Flow | None = None) -> list[Delivery]:
        return self.backlog.take(count, 1 << 30, seconds, flow)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.backlog.tick()

    def write_down(self) -> None:
        changes = self.backlog.changes()
        for low, high in changes.settled:
            self.settled.add(low, high)
        for sequence, count in changes.attempts:
            self.attempts[sequence] = count
            if not count:
                del self.attempts[sequence]


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def test_a_message_is_with_one_consumer_at_a_time() -> None:
    """What is handed out is not handed out again while its lease runs."""
    desk = Desk()
    desk.publish(b"a", b"b", b"c")
    assert bodies(desk.take(2)) == [b"a", b"b"]
    assert bodies(desk.take(2)) == [b"c"]
    assert desk.take() == []


def test_a_lease_that_runs_out_makes_the_message_due_again() -> None:
    """Not before its deadline, and within a tick after it."""
    desk = Desk()
    desk.publish(b"a")
    (first,) = desk.take(seconds=10)
    desk.pass_time(9.9)
    assert desk.take() == []
    desk.pass_time(0.2)
    (second,) = desk.take()
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.token != second.token


def test_extended_lease_runs_longer() -> None:
    """A consumer that asks in time keeps its message."""
    desk = Desk()
    desk.publish(b"a")
    (delivery,) = desk.take(seconds=10)
    assert desk.backlog.extend(delivery.sequence, delivery.token, 60)
    desk.pass_time(59)
    assert desk.take() == []
    desk.pass_time(2)
    assert len(desk.take()) == 1


def test_late_extension_does_not_touch_the_new_lease() -> None:
    """Who has lost a message cannot hold it back from, or take it away from, the next one."""
    desk = Desk()
    desk.publish(b"a")
    (old,) = desk.take(seconds=10)
    desk.pass_time(11)
    (new,) = desk.take(seconds=10)
    assert not desk.backlog.extend(old.sequence, old.token, 0)
    assert desk.take() == []
    assert desk.backlog.holds(new.sequence, new.token)
    assert not desk.backlog.holds(old.sequence, old.token)


def test_late_acknowledgement_still_counts() -> None:
    """The work is done, so it need not be done again."""
    desk = Desk()
    desk.publish(b"a")
    (delivery,) = desk.take(seconds=10)
    desk.pass_time(11)
    desk.backlog.acknowledge([delivery.sequence])
    assert desk.take() == []
    assert desk.backlog.floor == 1


def test_a_message_given_back_is_due_at_once_without_a_retry_policy() -> None:
    """As the service does."""
    desk = Desk()
    desk.publish(b"a")
    (delivery,) = desk.take()
    desk.backlog.extend(delivery.sequence, delivery.token, 0)
    assert bodies(desk.take()) == [b"a"]


def test_backoff_doubles_up_to_its_maximum() -> None:
    """1, 2, 4, 4 seconds after the first, second … failure."""
    desk = Desk()
    desk.backlog.redelivery = Redelivery(1.0, 4.0)
    desk.publish(b"a")
    for attempt, pause in enumerate([1, 2, 4, 4], start=1):
        (delivery,) = desk.take()
        assert delivery.attempt == attempt
        desk.backlog.extend(delivery.sequence, delivery.token, 0)
        desk.pass_time(pause - 0.01)
        assert desk.take() == []
        desk.pass_time(0.02)


def test_others_do_not_wait_for_a_message_in_backoff() -> None:
    """One poisonous message does not stop the rest."""
    desk = Desk()
    desk.backlog.redelivery = Redelivery(10.0, 600.0)
    desk.publish(b"poison", b"good")
    (poison,) = desk.take(1)
    desk.backlog.extend(poison.sequence, poison.token, 0)
    assert bodies(desk.take()) == [b"good"]


def test_too_many_failures_make_a_dead_letter() -> None:
    """After the given number of deliveries, by refusal or by deadline, it is not delivered again."""
    desk = Desk()
    desk.backlog.redelivery = Redelivery(0, 0, dead_after=5)
    desk.publish(b"a")
    for attempt in range(1, 6):
        (delivery,) = desk.take(seconds=10)
        if attempt % 2:
            desk.backlog.extend(delivery.sequence, delivery.token, 0)
        else:
            desk.pass_time(11)
    assert desk.take() == []
    assert list(desk.backlog.dead) == [(1, 5)]


def test_failures_are_remembered_over_a_restart() -> None:
    """A message that kills its consumer and the server does not start to count anew."""
    desk = Desk()
    desk.publish(b"a")
    for _ in range(3):
        (delivery,) = desk.take()
        desk.backlog.extend(delivery.sequence, delivery.token, 0)
    desk.write_down()
    desk.open()
    (delivery,) = desk.take()
    assert delivery.attempt == 4
    desk.backlog.acknowledge([1])
    desk.write_down()
    assert desk.attempts == {}


def test_flow_control_counts_what_is_outstanding() -> None:
    """A stream gets no more than it asked for, in messages and in bytes, until it has settled some."""
    desk = Desk()
    desk.publish(*[b"x" * 100] * 10)
    flow = Flow(max_messages=3)
    first = desk.take(flow=flow)
    assert len(first) == 3
    assert flow.full
    desk.backlog.acknowledge([first[0].sequence])
    desk.backlog.extend(first[1].sequence, first[1].token, 0)
    assert len(desk.take(count=1, flow=flow)) == 1
    desk.pass_time(11)
    assert (flow.messages, flow.bytes) == (0, 0)
    by_size = Flow(max_bytes=250)
    assert len(desk.take(flow=by_size)) == 3


def test_an_answer_has_its_size_and_what_is_left_comes_next() -> None:
    """A message that does not fit any more waits for the next answer; one that is larger than any comes alone."""
    desk = Desk()
    desk.publish(b"a" * 1000, b"b" * 5000, b"c" * 100, b"d" * 100, b"e" * 1000)
    answers = []
    while taken := desk.backlog.take(10, 1500, 10):
        answers.append([delivery.body[:1] for delivery in taken])
    assert answers == [[b"a"], [b"b"], [b"c", b"d"], [b"e"]]
    assert all(desk.backlog.holds(one, 0) is False for one in range(1, 6))
    desk.pass_time(11)
    assert [body[:1] for body in bodies(desk.backlog.take(10, 1500, 10))] == [b"a"]
    assert len(desk.take()) == 4


def test_filtered_messages_are_settled_unseen() -> None:
    """They are not delivered and do not hold the floor."""
    desk = Desk(wanted=lambda body: body.startswith(b"y"))
    desk.publish(b"n1", b"y1", b"n2", b"n3")
    (delivery,) = desk.take()
    assert delivery.body == b"y1"
    desk.backlog.acknowledge([delivery.sequence])
    assert desk.backlog.floor == 4


def test_a_large_backlog_is_read_in_pieces() -> None:
    """Memory holds a window of it only, whatever its size."""
    desk = Desk()
    desk.publish(*[b"m"] * 5000)
    taken = desk.take(10)
    assert len(taken) == 10
    assert desk.reads <= 1000


def test_gaps_in_the_sequence_do_not_hold_the_floor() -> None:
    """A publish that failed leaves a hole; nobody waits for it."""
    desk = Desk()
    desk.messages = {1: b"a", 4: b"d"}
    desk.backlog.published(6)
    desk.backlog.acknowledge([delivery.sequence for delivery in desk.take()])
    desk.take()
    assert desk.backlog.floor == 6


def test_old_messages_are_forgotten() -> None:
    """What retention has taken is neither delivered nor waited for, leased or not."""
    desk = Desk()
    desk.publish(b"a", b"b", b"c")
    flow = Flow(max_messages=10)
    desk.take(1, flow=flow)
    desk.backlog.forget_before(3)
    assert flow.messages == 0
    assert bodies(desk.take()) == [b"c"]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing published is lost, nothing settled comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.desk.backlog.redelivery = Redelivery(1.0, 4.0)
        self.out: list[Delivery] = []
        self.done: set[int] = set()
        self.written: set[int] = set()

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        self.desk.publish(*[b"m"] * count)

    @rule(count=st.integers(1, 4))
    def take(self, count: int) -> None:
        # Of four messages asked for, the last one does not fit and is put back.
        taken = self.desk.backlog.take(count, 3 * (1 + ENVELOPE_BYTES), 10)
        assert len(taken) == len({delivery.sequence for delivery in taken}) <= count
        assert not {delivery.sequence for delivery in taken} & self.done
        self.out += taken

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if self.out:
            chosen = data.draw(st.lists(st.sampled_from(self.out), max_size=4))
            self.desk.backlog.acknowledge([delivery.sequence for delivery in chosen])
            self.done |= {delivery.sequence for delivery in chosen}

    @rule(data=st.data(), seconds=st.sampled_from([0, 20]))
    def extend(self, data: st.DataObject, seconds: int) -> None:
        if self.out:
            delivery = data.draw(st.sampled_from(self.out))
            self.desk.backlog.extend(delivery.sequence, delivery.token, seconds)

    @rule(seconds=st.sampled_from([0.5, 3, 11, 30]))
    def pass_time(self, seconds: float) -> None:
        self.desk.pass_time(seconds)

    @rule()
    def write_down(self) -> None:
        self.desk.write_down()
        self.written = set(self.done)

    @rule()
    def crash(self) -> None:
        self.desk.open()
        self.desk.backlog.redelivery = Redelivery(1.0, 4.0)
        self.done = set(self.written)
        self.out = []

    @invariant()
    def floor_is_settled(self) -> None:
        assert set(range(1, self.desk.backlog.floor + 1)) <= self.done

    def teardown(self) -> None:
        left: set[int] = set()
        for _ in range(4):
            self.desk.pass_time(100)
            left |= {delivery.sequence for delivery in self.desk.take(10_000)}
        assert left == set(self.desk.messages) - self.done


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
