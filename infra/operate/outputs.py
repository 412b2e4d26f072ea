"""What a deployment says after it was deployed: where it is, and the next steps."""

import re

from rich.console import Console

from infra.environment import STRIPE_KEY, secret_name
from infra.operate.box import Fact, print_box
from infra.operate.place import deployment_named, outputs_of

_STEPS = """\
# 1. Give it Stripe's restricted key (it is asked for, and stands in no shell's history):
read -rs STRIPE_KEY && aws secretsmanager put-secret-value \\
  --secret-id {secret} --secret-string "$STRIPE_KEY"
# 2. Make the first tenant; its key is shown once:
.venv/bin/python -m infra.operate tenant create acme --env {env}
# 3. Give the canary its key:
.venv/bin/python -m infra.operate canary --env {env}
# 4. Send events and read them back:
STRIPEMETER_KEY=sm_... make smoke ENV={env}"""


def show(env: str, *, console: Console | None = None) -> None:
    """Print the box of a deployment.

    Raises:
        MissingOutputsError: nobody has deployed it from here.
    """
    deployment = deployment_named(env)
    facts = [_fact(name, value) for name, value in sorted(outputs_of(env).items())]
    steps = _STEPS.format(secret=secret_name(deployment, STRIPE_KEY), env=env)
    title = f"StripeMeter {env} on AWS"
    print_box(title, facts, "The next steps:\n", steps, console=console)


def _fact(name: str, value: str) -> Fact:
    """`ApiUrl` is `API url` to people."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return " ".join("API" if word == "Api" else word.lower() for word in words), value
