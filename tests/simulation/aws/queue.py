"""An SQS standard queue, its dead-letter queue and its mapping to a function, in memory.

A state machine like `mapping`: the kernel starts what `due` returns and tells `finished` how it
ended. A failed message comes back when its visibility timeout is over. Messages do not expire (4
days on AWS). Source: AWS, "Using Lambda with Amazon SQS" and "Amazon SQS Developer Guide".
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import md5
from random import Random
from typing import Any
from uuid import UUID

from infra.functions import Queue as QueueSettings
from local.queues import UnusableResponseError, as_record, failed_ids
from tests.simulation.aws.mapping import Failure

NO_TIME = timedelta(0)
_SENDER = "AIDAIENQZJOLO23YVJ4VO"


@dataclass(frozen=True, slots=True)
class QueueFaults:
    """How often a queue does what it may do and seldom does; rates from 0 to 1."""

    duplicate: float = 0.0
    """Per receive: a copy stays, and is received once more even if this one is deleted."""
    shuffle: float = 0.0
    """Per look: messages are received in any order."""
    recut: float = 0.0
    """Per batch: it is smaller than it could be."""


PERFECT = QueueFaults()


@dataclass(slots=True, eq=False)
class Message:
    """A message, or one of two copies of it."""

    id: str
    body: str
    sent_at: datetime
    visible_at: datetime
    receives: int = 0
    first_received_at: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class QueueInvocation:
    """One call of the function with a batch of messages."""

    number: int
    event: dict[str, Any]
    received: tuple[tuple[Message, int], ...] = field(repr=False)
    """Each message with its receive's number: a later receive makes this one void."""


class Queue:
    """One queue and its mapping; `send` is what producers call."""

    def __init__(
        self,
        settings: QueueSettings,
        visibility: timedelta,
        random: Random,
        *,
        arn: str = "",
        faults: QueueFaults = PERFECT,
    ) -> None:
        self.faults = faults
        self.dead: list[Message] = []
        """The dead-letter queue."""
        self.seen: Counter[str] = Counter()
        """How often what happened; each key is a sentence."""
        self._arn = arn or f"arn:aws:sqs:us-east-1:123456789012:{settings.name}"
        self._settings = settings
        self._visibility = visibility
        self._random = random
        self._messages: list[Message] = []

    def send(self, body: str, now: datetime, delay: timedelta = NO_TIME) -> str:
        """Put a message into the queue, to be seen after a delay; its id."""
        message_id = str(UUID(int=self._random.getrandbits(128), version=4))
        self._messages.append(Message(message_id, body, now, now + delay))
        return message_id

    # --- what the kernel asks ---

    def due(self, now: datetime) -> list[QueueInvocation]:
        """The invocations to start at this moment; their messages are invisible from now on."""
        visible = self._visible(now)
        if self._happens(self.faults.shuffle):
            self.seen["messages came out of order"] += 1
            self._random.shuffle(visible)
        invocations = []
        while visible and self._is_ready(visible, now):
            size = self._size(len(visible))
            invocations.append(self._receive(visible[:size], now))
            visible = visible[size:]
        return invocations

    def due_at(self) -> datetime | None:
        """When something is due at the latest if nothing else happens; None when nothing will be.

        Messages under way count as well: nobody knows yet that they will be deleted.
        """
        if not self._messages:
            return None
        first = min(message.visible_at for message in self._messages)
        return first + timedelta(seconds=self._settings.batching_window_s)

    def finished(self, invocation: QueueInvocation, answer: Any | Failure, now: datetime) -> None:
        """What became of an invocation: the function's answer, or that there was none."""
        failed = self._failed(invocation, answer)
        for message, receive in invocation.received:
            if message.id in failed:
                self.seen["a message failed"] += 1
            elif message.receives == receive and message in self._messages:
                self._messages.remove(message)
            else:
                # An old receipt deletes nothing: the message was received again since.
                self.seen["a message was handled after its visibility timeout"] += 1

    def redrive(self, now: datetime) -> int:
        """Move all dead messages back, as new ones with new ids; how many."""
        dead, self.dead = self.dead, []
        for message in dead:
            self.send(message.body, now)
        return len(dead)

    @property
    def is_drained(self) -> bool:
        """Whether no message waits, is delayed or under way; dead ones do not count."""
        return not self._messages

    # --- receiving ---

    def _visible(self, now: datetime) -> list[Message]:
        """Those that can be received; one received too often goes to the dead instead."""
        visible = [message for message in self._messages if message.visible_at <= now]
        worn_out = [one for one in visible if one.receives >= self._settings.receives_max]
        if not worn_out:
            return visible
        self.seen["a message died"] += len(worn_out)
        self.dead += worn_out
        self._messages = [message for message in self._messages if message not in worn_out]
        return [message for message in visible if message not in worn_out]

    def _is_ready(self, visible: list[Message], now: datetime) -> bool:
        window = timedelta(seconds=self._settings.batching_window_s)
        is_full = len(visible) >= self._settings.batch_size
        return is_full or min(message.visible_at for message in visible) + window <= now

    def _size(self, at_most: int) -> int:
        size = min(at_most, self._settings.batch_size)
        return self._random.randint(1, size) if self._happens(self.faults.recut) else size

    def _receive(self, messages: list[Message], now: datetime) -> QueueInvocation:
        for message in messages:
            message.receives += 1
            message.first_received_at = message.first_received_at or now
            message.visible_at = now + self._visibility
            if self._happens(self.faults.duplicate):
                self._messages.append(self._copy(message, now))
        self.seen["an invocation"] += 1
        records = [as_record(self._as_received(message), self._arn) for message in messages]
        received = tuple((message, message.receives) for message in messages)
        return QueueInvocation(self.seen["an invocation"], {"Records": records}, received)

    def _copy(self, message: Message, now: datetime) -> Message:
        """The copy on a server that the receive, and a deletion, did not reach."""
        self.seen["a message was received twice"] += 1
        seen_at = now + self._random.random() * 2 * self._visibility
        return Message(
            message.id,
            message.body,
            message.sent_at,
            seen_at,
            message.receives - 1,
            message.first_received_at,
        )

    def _as_received(self, message: Message) -> dict[str, Any]:
        assert message.first_received_at is not None
        return {
            "MessageId": message.id,
            "ReceiptHandle": f"{message.id}/{message.receives}",
            "Body": message.body,
            "MD5OfBody": md5(message.body.encode(), usedforsecurity=False).hexdigest(),
            "Attributes": {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": _milliseconds(message.sent_at),
                "SenderId": _SENDER,
                "ApproximateFirstReceiveTimestamp": _milliseconds(message.first_received_at),
            },
        }

    # --- what became of them ---

    def _failed(self, invocation: QueueInvocation, answer: Any | Failure) -> set[str]:
        """The ids of the messages that come again: all, when there is no usable answer."""
        ids = {message.id for message, _ in invocation.received}
        if isinstance(answer, Failure):
            return ids
        try:
            return failed_ids(answer, ids)
        except UnusableResponseError:
            return ids

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate


def _milliseconds(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))
