"""The one box that `make dev` prints: where everything is and what to try first."""

from rich.console import Console

from infra.operate.box import print_box
from local.stack import DEMO_CUSTOMER, DEMO_TENANT, Stack, StackSettings

_FIRST_CALL = """\
AT=$(date -u +%FT%TZ)
curl -s {api}/v1/events/ingest -H 'content-type: application/json'{header} -d '{{"events":[{{
  "tenantId":"{tenant}","metric":"api_calls","customerRef":"{customer}","quantity":1,
  "ts":"'$AT'","idempotencyKey":"first"}}]}}'"""


def show(
    stack: Stack, settings: StackSettings, key: str = "", *, console: Console | None = None
) -> None:
    """Print the box for a running stack; `key` is the demo tenant's, where keys are asked for."""
    title = "StripeMeter, local only, not for production"
    call = _FIRST_CALL.format(
        api=stack.api_url,
        tenant=DEMO_TENANT,
        customer=DEMO_CUSTOMER,
        header=f" \\\n  -H 'authorization: Bearer {key}'" if key else "",
    )
    invitation = "Send a first event; the same curl once more is a duplicate:\n"
    print_box(title, _facts(stack, settings, key), invitation, call, console=console)


def _facts(stack: Stack, settings: StackSettings, key: str) -> list[tuple[str, str]]:
    keys = "asks for API keys" if settings.auth else "takes requests without a key (loopback only)"
    kept = f"kept in {settings.data} (queued messages are not)" if settings.data else "in memory"
    return [
        ("API", f"{stack.api_url}   {keys}"),
        ("API docs", f"{stack.api_url}/docs"),
        ("Stripe stand-in", f"{stack.stripe_url}   key sk_test_local"),
        ("Demo tenant", f"{DEMO_TENANT}   with customer {DEMO_CUSTOMER}"),
        *([("Its API key", key)] if key else []),
        ("SQS queue", stack.queue_url),
        ("Data", kept),
        ("Webhooks", f"Stripe's reach {stack.api_url}/v1/stripe/webhook, signed"),
        ("Time", f"POST {stack.api_url}/_local/time moves it: see your month close"),
        ("Look inside", f"{stack.api_url}/_local/status"),
        ("Stop", "Ctrl-C"),
    ]
