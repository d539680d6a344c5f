"""The tables, and how a message's id is made."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, so that a topic made anew starts empty
    name TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL,
    last INTEGER NOT NULL DEFAULT 0            -- the sequence number of the newest message
);
CREATE TABLE IF NOT EXISTS subscriptions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    topic INTEGER NOT NULL,                    -- stays when the topic is deleted: its messages still flow
    body BLOB NOT NULL
);
-- A message is stored once, whatever the number of subscriptions. The key holds topic and sequence number.
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,                     -- publish time, microseconds since 1970, rising with the id
    body BLOB NOT NULL
);
-- What a subscription is done with, as ranges of sequence numbers: almost always one row.
CREATE TABLE IF NOT EXISTS settled (
    subscription INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    PRIMARY KEY (subscription, low)
) WITHOUT ROWID;
-- Failed deliveries of messages that are not settled, so that a restart does not give them another hundred.
CREATE TABLE IF NOT EXISTS attempts (
    subscription INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (subscription, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS policies (
    resource TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
"""

SEQUENCE_BITS = 40


def first_id(topic: int) -> int:
    """The id below all ids of a topic's messages: the message with sequence number n has this plus n."""
    return topic << SEQUENCE_BITS
