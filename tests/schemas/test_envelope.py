"""Every envelope in which a message can come is decoded, and anything else is refused with a reason."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import EnvelopeError, decode_envelope, decode_push_body

PUSHED = {
    "message": {
        "data": base64.b64encode(b"payload").decode(),
        "attributes": {"record_id": "r1"},
        "messageId": "17",
        "message_id": "17",
        "publishTime": "2026-01-02T03:04:05.678Z",
        "publish_time": "2026-01-02T03:04:05.678Z",
        "orderingKey": "k",
    },
    "subscription": "projects/p/subscriptions/s",
    "deliveryAttempt": 3,
}


def test_a_raw_push_body_is_decoded_whole() -> None:
    """Data, attributes, id, time, ordering key, attempt and subscription all arrive."""
    envelope = decode_push_body(json.dumps(PUSHED).encode())
    assert envelope.data == b"payload"
    assert dict(envelope.attributes) == {"record_id": "r1"}
    assert (envelope.message_id, envelope.ordering_key, envelope.delivery_attempt) == ("17", "k", 3)
    assert envelope.subscription == "projects/p/subscriptions/s"
    assert envelope.publish_time == "2026-01-02T03:04:05.678Z"


def test_a_message_with_attributes_only_is_decoded() -> None:
    """The framework does not recognise one; we do."""
    body = {"message": {"attributes": {"a": "b"}, "messageId": "1"}, "subscription": "projects/p/subscriptions/s"}
    envelope = decode_push_body(json.dumps(body).encode())
    assert (envelope.data, dict(envelope.attributes)) == (b"", {"a": "b"})


def test_a_structured_cloud_event_is_decoded() -> None:
    """``application/cloudevents+json`` with the push body as its data."""
    event = {"specversion": "1.0", "id": "17", "type": "google.cloud.pubsub.topic.v1.messagePublished", "data": PUSHED}
    envelope = decode_envelope({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())
    assert (envelope.data, envelope.message_id) == (b"payload", "17")


def test_a_binary_cloud_event_is_decoded() -> None:
    """The push body behind ``ce-`` headers; the id may only be in a header."""
    body = {"message": {"data": base64.b64encode(b"payload").decode()}}
    headers = {"ce-id": "18", "ce-specversion": "1.0", "content-type": "application/json"}
    envelope = decode_envelope(headers, json.dumps(body).encode())
    assert (envelope.data, envelope.message_id) == (b"payload", "18")


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"null", b"7", b'{"message": 7}', b'{"message": {"data": "%%%"}}', b"{}", b"\xff\xfe"],
)
def test_anything_else_is_refused_with_a_reason(body: bytes) -> None:
    """An EnvelopeError with words in it, and no other exception."""
    with pytest.raises(EnvelopeError) as caught:
        decode_push_body(body)
    assert len(str(caught.value)) > 10


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["message", "data", "attributes", "messageId", "subscription"]), inner),
    max_leaves=8,
))  # fmt: skip
def test_no_json_makes_the_decoder_fail_otherwise(document: object) -> None:
    """Whatever JSON comes, it is an envelope or an EnvelopeError."""
    with contextlib.suppress(EnvelopeError):
        decode_push_body(json.dumps(document).encode())
