"""Streams and pushes as items of the `billing` table and back.

streams   pk = tenant, month of the period's start, shard    sk = customer, start, metric, stream id
pushes    pk = stream id                                     sk = number, ten digits
in need   pk = shard                                         sk = stream id
claims    pk = target                                        sk = month

A customer's streams of a period stand together, so one query finds those of all its metrics. The
shadow's streams, and the list of those in need, stand in partitions of their own.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering import times
from metering.adapters.dynamodb.invoice_item_attributes import (
    invoice_item_attributes,
    read_invoice_item,
)
from metering.counter import CounterKey
from metering.keys import digest, join, shard_of
from metering.minutes import Gap, Minutes
from metering.names import CustomerRef, Identifier, Metric, TenantId
from metering.period import Span
from metering.push import (
    Carry,
    Correction,
    Mode,
    Push,
    PushState,
    PushStream,
    Received,
    Role,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    sent_by,
)
from metering.quantity import canonical

type Item = dict[str, Any]

STREAM_SHARDS = 16
"""Partitions of a tenant's streams of one month: 16,000 write units a second."""
IN_NEED_SHARDS = 8


# --- keys -----------------------------------------------------------------------------------------


def key(partition: str, sort: str) -> Item:
    """A primary key."""
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def streams_partition(role: Role, tenant: TenantId, month: str, shard: int) -> str:
    """One of the partitions that hold a tenant's streams of a month."""
    return join(_named(role, "streams"), tenant, month, str(shard))


def streams_prefix(role: Role, tenant: TenantId) -> str:
    """What the partitions that hold a tenant's streams begin with."""
    return join(_named(role, "streams"), tenant)


def _named(role: Role, name: str) -> str:
    """What a partition's key begins with: no partition holds streams of both roles."""
    return name if role is Role.PRIMARY else f"{role}_{name}"


def partition_of(role: Role, tenant: TenantId, customer: CustomerRef, instant: datetime) -> str:
    """The partition that holds a customer's streams of the periods that begin in a month."""
    return streams_partition(role, tenant, f"{instant:%Y-%m}", shard_of(customer, STREAM_SHARDS))


def customer_prefix(customer: CustomerRef) -> str:
    """How the sort keys of a customer's streams begin.

    Names may be longer than a sort key, so they stand there as a hash.
    """
    return f"{digest(customer).hex()}#"


def period_prefix(customer: CustomerRef, period: Span) -> str:
    """How the sort keys of a customer's streams of a period begin."""
    return f"{customer_prefix(customer)}{times.to_text(period.start)}#"


def stream_prefix(counter: CounterKey, period: Span) -> str:
    """How the sort keys of a counter's streams of a period begin."""
    return f"{period_prefix(counter.customer, period)}{digest(counter.metric).hex()}#"


def stream_key(stream: PushStream) -> Item:
    """Where a stream stands."""
    counter, period = stream.key.counter, stream.key.period
    role = stream.key.target.role
    partition = partition_of(role, counter.tenant, counter.customer, period.start)
    return key(partition, stream_prefix(counter, period) + stream.key.id)


def claim_item(stream: PushStream) -> Item:
    """Which counter sets a target's value in the periods that begin in a month."""
    month = f"{stream.key.period.start:%Y-%m}"
    owner = {"owner": {"S": digest(join(*stream.key.counter)).hex()}}
    return key(join("target", *stream.key.target), join("set_by", month)) | owner


def pushes_partition(stream_id: str) -> str:
    """The partition of a stream's closed pushes."""
    return join("pushes", stream_id)


def in_need_partition(role: Role, shard: int) -> str:
    """One of the partitions that list the streams in need."""
    return join(_named(role, "in_need"), str(shard))


def in_need_key(stream: PushStream) -> Item:
    """Where a stream is listed while it is in need."""
    stream_id = stream.key.id
    shard = shard_of(stream_id, IN_NEED_SHARDS)
    return key(in_need_partition(stream.key.target.role, shard), stream_id)


# --- streams --------------------------------------------------------------------------------------


def stream_item(stream: PushStream) -> Item:
    """A stream with its open push; its version and listing as they are given."""
    target, counter, period, incarnation, hour = stream.key
    item = stream_key(stream) | {
        "account": {"S": target.account},
        "mode": {"S": target.mode},
        "event_name": {"S": target.event_name},
        "stripe_customer": {"S": target.customer},
        "subscription_item": {"S": target.subscription_item},
        "role": {"S": target.role},
        "tenant": {"S": counter.tenant},
        "customer": {"S": counter.customer},
        "metric": {"S": counter.metric},
        "period_start": {"S": times.to_text(period.start)},
        "period_end": {"S": times.to_text(period.end)},
        "incarnation": {"N": str(incarnation)},
        "meter": {"S": stream.meter_id},
        "scale": {"N": str(stream.scale)},
        "kind": {"S": stream.kind},
        "accepted": {"N": str(stream.accepted)},
        "next_seq": {"N": str(stream.next_seq)},
        "gaps": {"S": ",".join(f"{gap.first}-{gap.last}" for gap in stream.minutes.gaps)},
        "carried_in": {"L": [_carry_attributes(carry) for carry in stream.carried_in]},
        "carried_out": {"N": canonical(stream.carried_out)},
        "items": {"L": [{"M": invoice_item_attributes(one)} for one in stream.items]},
        "ceded": {"N": str(stream.ceded)},
        "received": {"L": [_received_attributes(one) for one in stream.received]},
        "corrections": {"L": [_correction_attributes(one) for one in stream.corrections]},
        "compensated": {"N": str(stream.compensated)},
        "counted_seq": {"N": str(stream.counted_seq)},
        "due": {"BOOL": stream.is_due},
        "version": {"N": str(stream.version)},
        "listed": {"BOOL": stream.is_listed},
        **_instants(accepted_at=stream.accepted_at, hour=hour, ceded_from=stream.ceded_from),
    }
    if stream.open is not None:
        item["open"] = {"M": push_attributes(stream.open)}
    if stream.item is not None:
        item["item"] = {"M": invoice_item_attributes(stream.item)}
    if stream.stopped is not None:
        item["stopped"] = {"M": _stop_attributes(stream.stopped)}
    return item


def read_stream(item: Mapping[str, Any]) -> PushStream:
    """The stream that `stream_item` wrote."""
    return PushStream(
        key=_read_key(item),
        meter_id=item["meter"]["S"],
        scale=int(item["scale"]["N"]),
        kind=StreamKind(item["kind"]["S"]),
        accepted=int(item["accepted"]["N"]),
        accepted_at=_instant(item, "accepted_at"),
        next_seq=int(item["next_seq"]["N"]),
        open=read_push(item["open"]["M"]) if "open" in item else None,
        minutes=_read_minutes(item["gaps"]["S"]),
        stopped=_read_stop(item["stopped"]["M"]) if "stopped" in item else None,
        carried_in=tuple(_read_carry(line["M"]) for line in item["carried_in"]["L"]),
        carried_out=Decimal(item["carried_out"]["N"]),
        item=read_invoice_item(item["item"]["M"]) if "item" in item else None,
        items=tuple(read_invoice_item(one["M"]) for one in item["items"]["L"]),
        ceded=int(item["ceded"]["N"]) if "ceded" in item else 0,
        ceded_from=_instant(item, "ceded_from"),
        received=tuple(_read_received(one["M"]) for one in item.get("received", {"L": ()})["L"]),
        corrections=tuple(_read_correction(one["M"]) for one in item["corrections"]["L"]),
        compensated=int(item["compensated"]["N"]),
        counted_seq=int(item["counted_seq"]["N"]),
        is_due=item["due"]["BOOL"],
        version=int(item["version"]["N"]),
        is_listed=item["listed"]["BOOL"],
    )


def _read_key(item: Mapping[str, Any]) -> StreamKey:
    texts = {name: value["S"] for name, value in item.items() if "S" in value}
    return StreamKey(
        Target(
            texts["account"],
            Mode(texts["mode"]),
            texts["event_name"],
            texts["stripe_customer"],
            texts["subscription_item"],
            Role(texts["role"]),
        ),
        CounterKey(
            TenantId(texts["tenant"]), CustomerRef(texts["customer"]), Metric(texts["metric"])
        ),
        Span(times.from_text(texts["period_start"]), times.from_text(texts["period_end"])),
        int(item["incarnation"]["N"]),
        _instant(item, "hour"),
    )


def _read_minutes(text: str) -> Minutes:
    pairs = (part.split("-") for part in text.split(","))
    return Minutes(tuple(Gap(int(first), int(last)) for first, last in pairs))


def _carry_attributes(carry: Carry) -> Item:
    from_period = {"S": times.to_text(carry.from_period)}
    return {"M": {"from_period": from_period, "quantity": {"N": canonical(carry.quantity)}}}


def _read_carry(item: Mapping[str, Any]) -> Carry:
    return Carry(times.from_text(item["from_period"]["S"]), Decimal(item["quantity"]["N"]))


def _received_attributes(received: Received) -> Item:
    return {"M": {"stream": {"S": received.stream_id}, "amount": {"N": str(received.amount)}}}


def _read_received(item: Mapping[str, Any]) -> Received:
    return Received(item["stream"]["S"], int(item["amount"]["N"]))


def _correction_attributes(correction: Correction) -> Item:
    texts = {"by": {"S": correction.approved_by}, "reason": {"S": correction.reason}}
    approved_at = _instants(at=correction.approved_at)
    return {"M": {"amount": {"N": str(correction.amount)}} | texts | approved_at}


def _read_correction(item: Mapping[str, Any]) -> Correction:
    amount, at = int(item["amount"]["N"]), times.from_text(item["at"]["S"])
    return Correction(amount, at, item["by"]["S"], item["reason"]["S"])


def _stop_attributes(stop: Stop) -> Item:
    texts = {"reason": {"S": stop.reason}, "message": {"S": stop.message}}
    return texts | _instants(since=stop.since, until=stop.until)


def _read_stop(item: Mapping[str, Any]) -> Stop:
    since = times.from_text(item["since"]["S"])
    return Stop(item["reason"]["S"], item["message"]["S"], since, _instant(item, "until"))


# --- pushes ---------------------------------------------------------------------------------------


def push_item(stream: PushStream, push: Push) -> Item:
    """A closed push in the history of the stream that sent it, whoever holds it by now."""
    sender = sent_by(push) if stream.received else stream.key.id
    return key(pushes_partition(sender), f"{push.seq:010d}") | push_attributes(push)


def push_attributes(push: Push) -> Item:
    """A push without the key it stands at."""
    return {
        "seq": {"N": str(push.seq)},
        "identifier": {"S": push.identifier},
        "delta": {"N": str(push.delta)},
        "value": {"S": push.value},
        "state": {"S": push.state},
        "key_generation": {"N": str(push.key_generation)},
        "attempts": {"N": str(push.attempts)},
        "doubtful": {"BOOL": push.is_doubtful},
        "resolution": {"S": push.resolution},
        "last_error": {"S": push.last_error},
        "correction": {"BOOL": push.is_correction},
        **_instants(
            occurred_at=push.occurred_at,
            planned_at=push.planned_at,
            first_attempt_at=push.first_attempt_at,
            last_attempt_at=push.last_attempt_at,
            not_before=push.not_before,
            seen_empty_at=push.seen_empty_at,
            closed_at=push.closed_at,
        ),
    }


def read_push(item: Mapping[str, Any]) -> Push:
    """The push that `push_attributes` wrote."""
    return Push(
        seq=int(item["seq"]["N"]),
        identifier=Identifier(item["identifier"]["S"]),
        delta=int(item["delta"]["N"]),
        value=item["value"]["S"],
        occurred_at=times.from_text(item["occurred_at"]["S"]),
        planned_at=times.from_text(item["planned_at"]["S"]),
        state=PushState(item["state"]["S"]),
        key_generation=int(item["key_generation"]["N"]),
        attempts=int(item["attempts"]["N"]),
        first_attempt_at=_instant(item, "first_attempt_at"),
        last_attempt_at=_instant(item, "last_attempt_at"),
        is_doubtful=item["doubtful"]["BOOL"],
        not_before=_instant(item, "not_before"),
        seen_empty_at=_instant(item, "seen_empty_at"),
        closed_at=_instant(item, "closed_at"),
        resolution=item["resolution"]["S"],
        last_error=item["last_error"]["S"],
        is_correction=item["correction"]["BOOL"],
    )


def _instants(**instants: datetime | None) -> Item:
    return {name: {"S": times.to_text(at)} for name, at in instants.items() if at is not None}


def _instant(item: Mapping[str, Any], name: str) -> datetime | None:
    return times.from_text(item[name]["S"]) if name in item else None
