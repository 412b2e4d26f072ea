"""What a construct is called within its stack; CloudFormation's logical ids are made of it."""

import re


def construct_id(name: str) -> str:
    """`period_closer` and `POST /v1/events` as `PeriodCloser` and `PostV1Events`."""
    return "".join(part.title() for part in re.split(r"[^A-Za-z0-9]+", name))
