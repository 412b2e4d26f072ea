"""`tenant`: the operator's commands about tenants, their keys, limits and claims."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metering.wiring import Wiring

main = typer.Typer(help="Tenants: make them, their keys and limits.", no_args_is_help=True)

Env = Annotated[str, typer.Option("--env", help="Which deployment, as in `make deploy ENV=dev`.")]
Endpoint = Annotated[
    str | None,
    typer.Option(envvar="DYNAMODB_ENDPOINT", help="Another DynamoDB than AWS's own."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant's.")]
Limit = Annotated[
    int | None, typer.Option(min=0, help="0 is no limit; left out, the deployment's own holds.")
]


@main.command(epilog="Example:  stripemeter tenant create acme --env dev")
def create(
    name: Name,
    env: Env,
    again: Annotated[
        bool, typer.Option("--again", help="A further key of a tenant that exists.")
    ] = False,
    endpoint: Endpoint = None,
) -> None:
    """Make a tenant and its first API key, and print the key this once.

    A tenant that exists is left as it is: the command fails, and makes no key without --again.
    """
    from infra.operate import tenants

    with _deployment(env, endpoint) as wiring:
        issued = tenants.create(wiring, name, again=again)
    typer.echo(
        f"{issued.key.name.capitalize()} of tenant {name} in {env}, with the scopes"
        f" {', '.join(sorted(issued.key.scopes))}. It is shown this once and kept nowhere:",
        err=True,
    )
    typer.echo(issued.text)


@main.command(epilog="Example:  stripemeter tenant keys acme --env dev")
def keys(name: Name, env: Env, endpoint: Endpoint = None) -> None:
    """List a tenant's API keys, ended ones too, without their secrets."""
    from infra.operate import tenants
    from metering import times

    with _deployment(env, endpoint) as wiring:
        found = tenants.keys(wiring, name)
        now = wiring.clock.now()
    for key in found:
        state = "active" if key.is_usable(now) else "ended"
        made = times.to_iso_ms(key.created_at)
        typer.echo(f"{key.prefix}  {state}  {made}  {key.name}  {','.join(sorted(key.scopes))}")


@main.command(epilog="Example:  stripemeter tenant revoke sm_0a1b2c3d4e5f --env dev")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key up to its dot.")],
    env: Env,
    endpoint: Endpoint = None,
) -> None:
    """End an API key of any tenant; it is refused everywhere within 30 seconds."""
    from infra.operate import tenants

    with _deployment(env, endpoint) as wiring:
        key = tenants.revoke(wiring, key_id)
    typer.echo(f"The key {key.prefix} of tenant {key.tenant} has ended.")


@main.command(epilog="Example:  stripemeter tenant limit acme --env dev --events-a-second 500")
def limit(
    name: Name,
    env: Env,
    events_a_second: Limit = None,
    requests_a_second: Limit = None,
    endpoint: Endpoint = None,
) -> None:
    """Set what a tenant may send a second, where the deployment limits tenants at all.

    What is left out is the deployment's own again (TENANT_EVENTS_A_SECOND,
    TENANT_REQUESTS_A_SECOND). It holds everywhere within 30 seconds.
    """
    from infra.operate import tenants
    from metering.rate_limit import TenantLimits

    limits = TenantLimits(events_a_second, requests_a_second)
    with _deployment(env, endpoint) as wiring:
        tenants.limit(wiring, name, limits)
    said = {"events": events_a_second, "requests": requests_a_second}
    for kind, number in said.items():
        text = "as the deployment says" if number is None else number or "no limit"
        typer.echo(f"{name}: {kind} a second: {text}")


@main.command(epilog="Example:  stripemeter tenant release price_1ABC --env dev")
def release(
    stripe_name: Annotated[str, typer.Argument(help="price_, mtr_, si_, cus_, sub_; or a name.")],
    env: Env,
    account: Annotated[str, typer.Option(help="Of a meter's event name: acct_...")] = "",
    endpoint: Endpoint = None,
) -> None:
    """Let another tenant name an object at Stripe that one has named first.

    Change the mappings and customers of the one that has it before: they stay as they are.
    """
    from infra.operate import tenants

    with _deployment(env, endpoint) as wiring:
        owner = tenants.release(wiring, stripe_name, account)
    typer.echo(f"{stripe_name} was {owner}'s; whoever names it next has it.")


@contextmanager
def _deployment(env: str, endpoint: str | None) -> Iterator["Wiring"]:
    """A deployment's objects; what cannot be done ends the command with exit code 1."""
    from infra.operate.place import UnknownDeploymentError
    from infra.operate.tenants import TenantError, wiring_of

    try:
        with wiring_of(env, endpoint) as wiring:
            yield wiring
    except (TenantError, UnknownDeploymentError) as refused:
        typer.echo(f"error: {refused}", err=True)
        raise typer.Exit(1) from None
