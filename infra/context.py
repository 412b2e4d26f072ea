"""From the CDK's context to a deployment: what `cdk.json` and the command line may say, checked.

    cdk.json            "context": {"stripemeter:prod": {"log_days": 365, "lateness_h": 72}}
    the command line    -c env=prod -c lateness_h=72 -c 'schedules_s={"reconciler": 900}'

The command line goes before `cdk.json`, and that before the defaults of `infra.deployments`. A
deployment that only `cdk.json` knows begins with the settings of `prod`, which keep its data.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from infra.deployments import DEV, PROD, Deployment, Domain, Provisioned
from infra.functions import FUNCTIONS, Schedule

SETTINGS_KEY = "stripemeter:"
"""Stands in `cdk.json` before a deployment's name."""
_DEFAULTS = {deployment.name: deployment for deployment in (DEV, PROD)}
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
"""Names of buckets hold it beside an account and a region, and end at 63 characters."""
_LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653)
"""What CloudWatch keeps logs for."""
_DAY_S = 24 * 3600


class DeploymentError(ValueError):
    """What was asked for cannot be deployed; says what, where, and how to fix it."""


def deployment_from(context: Mapping[str, Any]) -> Deployment:
    """The deployment that a context names and describes.

    Raises:
        DeploymentError: it names none, or one of its values cannot be.
    """
    base = _base(context)
    key = SETTINGS_KEY + base.name
    stated = _settings(context.get(key, {}), f"{key} in cdk.json")
    stated |= _settings(_of_command_line(context), "-c at the command line")
    deployment = replace(base, **stated)
    if deployment.alarm_email and deployment.alarm_topic_arn:
        raise DeploymentError(
            f"{base.name} has both alarm_email and alarm_topic_arn ({key} in cdk.json, -c at the"
            " command line): leave one away, or subscribe the address to your topic"
        )
    return deployment


# --- which one -----------------------------------------------------------------------------------


def _base(context: Mapping[str, Any]) -> Deployment:
    name = context.get("env")
    known = _known(context)
    if name not in known:
        said = f"env is {name!r}" if name is not None else "no env is given"
        raise DeploymentError(
            f"{said}; name one of {', '.join(known)} by `ENV=...` (cdk: `-c env=...`), or describe"
            f" another under `{SETTINGS_KEY}<name>` in the context of cdk.json"
        )
    if not _NAME.fullmatch(name):
        raise DeploymentError(
            f"env {name!r} cannot stand in the names of resources; use 10 small letters and digits"
            " at most, a letter first"
        )
    return _DEFAULTS.get(name, replace(PROD, name=name))


def _known(context: Mapping[str, Any]) -> list[str]:
    described = [key.removeprefix(SETTINGS_KEY) for key in context if key.startswith(SETTINGS_KEY)]
    return sorted({*_DEFAULTS, *described})


def _of_command_line(context: Mapping[str, Any]) -> dict[str, Any]:
    """Our part of a context: the CDK's own keys all hold a colon, an at sign or a hyphen.

    One of ours that is written with hyphens is no key of the CDK's, and must not be passed over.
    """
    return {
        key: value
        for key, value in context.items()
        if key != "env" and (re.fullmatch(r"\w+", key) or key.replace("-", "_") in READERS)
    }


# --- what it says --------------------------------------------------------------------------------


def _settings(stated: Any, where: str) -> dict[str, Any]:
    if not isinstance(stated, Mapping):
        raise DeploymentError(f"{where} must be an object of settings, not {stated!r}")
    return {name: _setting(name, value, where) for name, value in stated.items()}


def _setting(name: str, value: Any, where: str) -> Any:
    if name not in READERS:
        near = get_close_matches(name, READERS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(READERS))}"
        raise DeploymentError(f"{where}: there is no setting {name}; {hint}")
    try:
        return READERS[name](value)
    except ValueError as error:
        raise DeploymentError(f"{where}: {name} must be {error}, not {value!r}") from None


type _Reader = Callable[[Any], Any]
"""Answers the value, or raises a ValueError whose text ends the sentence `... must be`."""


def _switch(value: Any) -> bool:
    texts = {"true": True, "false": False}
    found = value if isinstance(value, bool) else texts.get(str(value))
    if found is None:
        raise ValueError("true or false")
    return found


def _whole(least: int, most: int) -> _Reader:
    def read(value: Any) -> int:
        is_whole = not isinstance(value, bool) and re.fullmatch(r"\d{1,12}", str(value))
        if not is_whole or not least <= int(value) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(value)

    return read


def _one_of(*choices: Any) -> _Reader:
    def read(value: Any) -> Any:
        found = [choice for choice in choices if str(choice) == str(value)]
        if not found:
            raise ValueError(f"one of {', '.join(map(str, choices))}")
        return found[0]

    return read


def _filled(pattern: str, what: str) -> _Reader:
    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise ValueError(what)

    return read


def _text(pattern: str, what: str) -> _Reader:
    """The same, or None, which says that there is none."""
    filled = _filled(pattern, what)
    return lambda value: None if value is None else filled(value)


def _json_object(value: Any, what: str) -> dict[str, Any]:
    """An object, or the text of one as the command line hands it over."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(what)  # noqa: TRY004 (one kind of error for all that cannot be)
    return dict(found)


def _by_function(names: frozenset[str], what: str, number: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, int]:
        shape = (
            f'an object of {what}, such as {{"{min(names)}": 900}}, for {", ".join(sorted(names))}'
        )
        found = _json_object(value, shape)
        if not found.keys() <= names:
            raise ValueError(shape)
        try:
            return {name: number(one) for name, one in found.items()}
        except ValueError as error:
            raise ValueError(f"{shape}; each is {error}") from None

    return read


def _parts(made: type[Domain | Provisioned], parts: Mapping[str, _Reader]) -> _Reader:
    """A value of several parts, or None."""
    optional = {field.name for field in fields(made) if isinstance(field.default, int)}

    def read(value: Any) -> Any:
        if value is None:
            return None
        shape = f"an object with {', '.join(parts)}"
        found = _json_object(value, shape)
        if not parts.keys() - optional <= found.keys() <= parts.keys():
            raise ValueError(shape)
        try:
            return made(**{name: parts[name](one) for name, one in found.items()})
        except ValueError as error:
            raise ValueError(f"{shape}; one of them is not {error}") from None

    return read


_DOMAIN = {
    "name": _filled(r"([a-z0-9-]+\.)+[a-z]{2,}", "a host name"),
    "certificate_arn": _filled(r"arn:aws[\w-]*:acm:\S+", "the ARN of a certificate of ACM"),
}
_UNITS = _whole(1, 10_000_000)
_CAPACITY = {
    "write_units_min": _UNITS,
    "write_units_max": _UNITS,
    "read_units_min": _UNITS,
    "read_units_max": _UNITS,
    "target_percent": _whole(20, 90),
}


def _capacity(value: Any) -> Provisioned | None:
    found: Provisioned | None = _parts(Provisioned, _CAPACITY)(value)
    if found and (
        found.write_units_min > found.write_units_max or found.read_units_min > found.read_units_max
    ):
        raise ValueError("an object whose most is no less than its least, in writes and in reads")
    return found


_SCHEDULED = frozenset(one.name for one in FUNCTIONS if isinstance(one.trigger, Schedule))
_MINUTE_S = 60


def _period(value: Any) -> int:
    """EventBridge Scheduler counts in whole minutes."""
    seconds: int = _whole(_MINUTE_S, _DAY_S)(value)
    if seconds % _MINUTE_S:
        raise ValueError("a whole number of minutes, in seconds")
    return seconds


READERS: dict[str, _Reader] = {
    "keeps_data": _switch,
    "log_days": _one_of(*_LOG_DAYS),
    "alarm_email": _text(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address"),
    "alarm_topic_arn": _text(r"arn:aws[\w-]*:sns:\S+", "the ARN of a topic of SNS"),
    "domain": _parts(Domain, _DOMAIN),
    "capacity": _capacity,
    "event_index": _switch,
    "event_index_shards": _whole(1, 100),
    "lateness_h": _whole(0, 366 * 24),
    "stripe_transport": _one_of("v1", "v2"),
    "stripe_reads_a_month": _whole(1, 10**12 - 1),
    "legacy_usage_records": _switch,
    "shadow": _switch,
    "tracing": _switch,
    "warehouse": _switch,
    "canary": _switch,
    "canary_customer": _filled(r"\S{1,255}", "a customer's reference"),
    "schedules_s": _by_function(_SCHEDULED, "seconds", _period),
    "requests_per_s": _whole(1, 1_000_000),
    "requests_burst": _whole(1, 1_000_000),
    "queue_concurrency": _whole(2, 1_000),
    "tenant_events_per_s": _whole(0, 1_000_000),
    "tenant_requests_per_s": _whole(0, 1_000_000),
    "reserved_concurrency": _by_function(
        frozenset(one.name for one in FUNCTIONS), "executions at once", _whole(1, 10_000)
    ),
    "concurrency": _whole(10, 1_000_000),
    "partner_event_bus": _text(
        r"aws\.partner/stripe\.com/\S+",
        "the name of Stripe's event bus, `aws.partner/stripe.com/...`",
    ),
}
"""How each setting is read; the names are the fields of `Deployment`."""
