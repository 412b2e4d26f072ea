"""The context object that Lambda hands to a handler beside the event."""

import time
import uuid
from dataclasses import dataclass, field

from infra.functions import Function
from local.dynamodb_local import REGION

ACCOUNT = "000000000000"


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """One invocation's context, with the names that Lambda's own has."""

    function_name: str
    memory_limit_in_mb: int
    deadline: float
    """On the monotonic clock, seconds."""
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    log_stream_name: str = "local"

    @classmethod
    def of(cls, function: Function) -> "LambdaContext":
        """A fresh invocation of a function, with its whole time before it."""
        return cls(function.name, function.memory_mb, time.monotonic() + function.timeout_s)

    @property
    def invoked_function_arn(self) -> str:
        """The function's name as AWS writes it."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function_name}"

    @property
    def log_group_name(self) -> str:
        """Where Lambda would log."""
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation, never below 0."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))
