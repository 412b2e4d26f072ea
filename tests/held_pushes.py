"""Streams and their pushes held in memory, for tests of what is decided about them."""

from collections.abc import Sequence
from dataclasses import replace

from metering.counter import CounterKey
from metering.names import TenantId
from metering.period import Span
from metering.ports import Change
from metering.push import Push, PushStream


class HeldPushes:
    """As much of the `Pushes` port as decisions need; `is_busy`: somebody else is always first."""

    def __init__(self, *streams: PushStream) -> None:
        self.held = {one.key.id: replace(one, version=1) for one in streams}
        self.closed: list[Push] = []
        self.pushes: dict[str, list[Push]] = {}
        """What each stream has pushed, by its id."""
        self.together: Sequence[Change] = []
        self.is_busy = False
        self.claimed: list[PushStream] = []
        self.is_claimed = True

    def in_need(self, tenant: TenantId | None = None) -> list[PushStream]:
        held = self.held.values()
        return [one for one in held if tenant in {None, one.key.counter.tenant}]

    def streams(self, counter: CounterKey, period: Span) -> list[PushStream]:
        return [one for one in self._of(counter) if one.key.period.start == period.start]

    def overlapping(self, counter: CounterKey, period: Span) -> list[PushStream]:
        return [
            one
            for one in self._of(counter)
            if one.key.period.start != period.start
            and one.key.period.start < period.end
            and period.start < one.key.period.end
        ]

    def _of(self, counter: CounterKey) -> list[PushStream]:
        return [one for one in self.held.values() if one.key.counter == counter]

    def history(self, stream: PushStream) -> list[Push]:
        return self.pushes.get(stream.key.id, [])

    def claim(self, stream: PushStream) -> bool:
        self.claimed.append(stream)
        return self.is_claimed

    def store(self, stream: PushStream, closed: Push | None = None) -> PushStream | None:
        if self.is_busy:
            return None
        self.held[stream.key.id] = stored = replace(stream, version=stream.version + 1)
        self.closed += [closed] if closed else []
        return stored

    def store_together(self, changes: Sequence[Change]) -> bool:
        if not self.is_busy:
            self.together = changes
            for change in changes:
                self.store(change.stream)
        return not self.is_busy
