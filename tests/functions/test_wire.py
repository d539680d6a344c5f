"""Requests that are joined from serialized messages."""

import pytest

from functions.runtime.publisher import MESSAGES, PublishRequest, PubsubMessage


@pytest.mark.parametrize("size", [0, 1, 120, 125, 126, 127, 128, 129, 16_380, 16_384, 70_000, 2_100_000])
def test_a_joined_request_is_the_one_that_protobuf_writes(size):
    """Byte for byte, for elements whose length takes one to four bytes."""
    messages = [PubsubMessage(data=b"x" * size), PubsubMessage(data=b"y", attributes={"a": "b"})]
    joined = PublishRequest(topic="t").SerializeToString() + b"".join(
        MESSAGES.element(message.SerializeToString()) for message in messages
    )
    assert joined == PublishRequest(topic="t", messages=messages).SerializeToString()
