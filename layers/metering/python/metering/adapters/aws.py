"""Clients of AWS's services, made by botocore: what boto3 adds, every cold start would pay for.

See `docs/decisions/0024-two-layers-without-boto3.md`.
"""

from typing import Any

from botocore.session import get_session


def client(service: str, **settings: Any) -> Any:
    """A client with the process's credentials and region; typed by whoever asks for it."""
    return get_session().create_client(service, **settings)
