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
.venv/bin/stripemeter tenant create acme --env {env}
# 3. Send events and read them back:
STRIPEMETER_KEY=sm_... make smoke ENV={env}
# 4. Give the canary its key:
.venv/bin/stripemeter canary --env {env}
# Then webhooks, alarms by e-mail and the first mapping: docs/deploying.md, from step 7 on"""

_SHORT = frozenset({"Api", "Url"})
"""Words that people write in capitals."""


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
    """`ApiUrl` is `API URL` to people."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return " ".join(word.upper() if word in _SHORT else word.lower() for word in words), value
