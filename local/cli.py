"""The `stripemeter` command. Each command imports what it needs only when it runs.

What is done with deployments on AWS stands in `infra.operate`, which this command becomes.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from local.stack import StackSettings

main = typer.Typer(
    name="stripemeter",
    help="StripeMeter on this machine (no AWS account, no Stripe key, no Docker), and what an"
    " operator does with deployments on AWS.",
    epilog="Examples:  stripemeter dev --free-ports   |   stripemeter tenant create acme --env dev",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_Data = Annotated[
    Path | None, typer.Option(help="Keep everything but queued messages in this folder.")
]


@main.command(epilog="Examples:  stripemeter dev   |   stripemeter dev --data ./data --auth")
def dev(
    port: Annotated[int, typer.Option(help="Where the API listens.")] = 3000,
    stripe_port: Annotated[int, typer.Option(help="Where the Stripe stand-in listens.")] = 12111,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take free ports.")] = False,
    data: _Data = None,
    virtual_shards: Annotated[
        int, typer.Option(min=1, help="Deal the stream to so many shards.")
    ] = 1,
    auth: Annotated[bool, typer.Option("--auth", help="Ask for API keys on loopback.")] = False,
    summary_delay: Annotated[
        float | None, typer.Option(help="Seconds the Stripe stand-in takes to sum up usage.")
    ] = None,
) -> None:
    """Keep the local stack running until Ctrl-C."""
    from local.dynamodb_local import LocalServiceError
    from local.stack import StackSettings

    settings = StackSettings(
        api_port=port,
        stripe_port=stripe_port,
        free_ports=free_ports,
        data=data,
        virtual_shards=virtual_shards,
        auth=auth,
        summary_delay_s=summary_delay,
        shows_runner=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        _keep_running(settings)
    except LocalServiceError as trouble:
        typer.echo(f"error: {trouble}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("stopped")


def _keep_running(settings: "StackSettings") -> None:
    from local.box import show
    from local.dynamodb_local import LocalServiceError
    from local.seed import demo_key, seed
    from local.stack import running_stack

    with running_stack(settings) as stack:
        key = demo_key(stack.dynamodb_endpoint) if settings.auth else ""
        try:
            seed(stack.api_url, stack.stripe_url, key=key)
        except LocalServiceError as refused:
            typer.echo(f"warning: the demo tenant is not set up: {refused}", err=True)
        show(stack, settings, key)
        stack.wait()


@main.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    epilog="Example:  stripemeter stripe --port 12111 --summary-delay 5",
)
def stripe(context: typer.Context) -> None:
    """Run the Stripe stand-in alone (its own options: stripemeter stripe --help)."""
    os.execv(sys.executable, [sys.executable, "-m", "local.stripe", *context.args])  # noqa: S606 (becomes it)


@main.command(epilog="Examples:  stripemeter demo   |   stripemeter demo --input access.log.gz")
def demo(
    log: Annotated[
        Path | None,
        typer.Option(
            "--input",
            exists=True,
            dir_okay=False,
            help="Your own access log: Apache/nginx combined or JSON lines, plain or gzipped.",
        ),
    ] = None,
) -> None:
    """Meter a web server's log end to end and check every number; exit code 0 if all agree."""
    from local.demo import run

    raise typer.Exit(run(log))


@main.command(epilog="Examples:  stripemeter bench   |   stripemeter bench --only stripe --quick")
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="ingest, aggregator, stack, writer, reconciler, arrival; or stripe, which is the"
            " last three. Several are allowed, and none means everything."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small part of everything, to see that it runs.")
    ] = False,
) -> None:
    """Measure functions and the whole stack; prints method and machine."""
    from local.bench.parts import Part, run

    try:
        parts = [Part(one) for one in only or ()]
    except ValueError as unknown:
        raise typer.BadParameter(f"{unknown}; there are: {', '.join(Part)}") from None
    raise typer.Exit(run(parts, quick=quick))


@main.command(
    epilog="Examples:  stripemeter cost   |   stripemeter cost --events 50m --batch 100"
    " --customers 2000 --metrics 3 --event-index"
)
def cost(  # noqa: PLR0913, PLR0917 (the flags of one command)
    events: Annotated[
        str | None, typer.Option(help="Show a month of so many events: 800k, 50m, 2b.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Events a request or message.")] = 100,
    customers: Annotated[int, typer.Option(min=1, help="How many use something.")] = 1000,
    metrics: Annotated[int, typer.Option(min=1, help="Metrics of each customer.")] = 1,
    event_index: Annotated[bool, typer.Option("--event-index", help="Events are listed.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Events come by SQS.")] = False,
    even: Annotated[bool, typer.Option("--even", help="All customers use alike.")] = False,
    shards: Annotated[int, typer.Option(min=1, help="Of the ledger's stream.")] = 4,
    sync: Annotated[int, typer.Option(min=60, help="Seconds between the writer's runs.")] = 60,
    reconcile: Annotated[int, typer.Option(min=60, help="And between the reconciler's.")] = 3600,
    kept: Annotated[int, typer.Option(min=1, help="Months of events in the ledger.")] = 1,
    provisioned: Annotated[
        bool, typer.Option("--provisioned", help="The ledger's units are paid by the hour.")
    ] = False,
    measured: Annotated[
        Path | None, typer.Option(exists=True, help="Measure nothing: take this file's figures.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep what was measured in this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    brief: Annotated[bool, typer.Option("--brief", help="The month of --events alone.")] = False,
) -> None:
    """Measure what the functions take, and tell what that costs on AWS."""
    from infra.cost.month import Workload
    from local.costs.command import amount, run

    workload = None
    if brief and events is None:
        raise typer.BadParameter("--brief shows the month of --events alone: add --events 50m")
    if events is not None:
        try:
            number = amount(events)
        except ValueError as trouble:
            raise typer.BadParameter(str(trouble)) from None
        workload = Workload(
            events=number,
            batch=batch,
            customers=customers,
            metrics=metrics,
            event_index=event_index,
            queue=queue,
            shards=shards,
            sync_s=sync,
            reconcile_s=reconcile,
            even=even,
            kept_months=kept,
            provisioned=provisioned,
        )
    raise typer.Exit(run(workload, measured=measured, save=save, as_json=as_json, is_brief=brief))


@main.command(epilog="Example:  stripemeter storm --pushes 10000 --seed 1")
def storm(
    pushes: Annotated[int, typer.Option(min=1, help="How many must reach Stripe.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed brings the same faults.")] = 1,
    faults: Annotated[
        float, typer.Option(min=0, max=0.9, help="Which part of Stripe's answers is at fault.")
    ] = 0.2,
) -> None:
    """Tell Stripe thousands of pushes among faults and crashes; exit code 0 if all is exact."""
    from local.storm import Order, run

    raise typer.Exit(run(Order(pushes, seed, faults)))


@main.command(epilog="Examples:  stripemeter month --seed 7   |   stripemeter month --no-faults")
def month(
    seed: Annotated[int, typer.Option(help="What everything is drawn from.")] = 7,
    days: Annotated[int, typer.Option(min=2, max=60, help="How long it lasts.")] = 35,
    customers: Annotated[int, typer.Option(min=1, help="How many there are.")] = 12,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="What goes wrong.")] = True,
) -> None:
    """Live through a month in virtual time and check every number; exit code 0 if all agree."""
    from local.month.command import run

    raise typer.Exit(run(seed, days=days, customers=customers, faults=faults))


# --- deployments on AWS ---------------------------------------------------------------------------

_ON_AWS = {
    "preflight": "On AWS: say what deploying needs and is not there.",
    "outputs": "On AWS: show where a deployment is, and the next steps.",
    "tenant": "On AWS: make tenants, their keys and limits.",
    "smoke": "Anywhere: send events twice, see each counted once.",
    "canary": "On AWS: give the canary its key.",
    "archive": "On AWS: list and read the ledger's archive.",
    "destroy": "On AWS: remove a deployment, and say what stays.",
}


def _hand_over(name: str, says: str) -> None:
    """Let a command of `infra.operate` be one of ours; its options and its help are its own."""

    @main.command(
        name,
        help=says,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        add_help_option=False,
    )
    def become(context: typer.Context) -> None:
        operate = [sys.executable, "-m", "infra.operate", name, *context.args]
        os.execv(sys.executable, operate)  # noqa: S606 (becomes it)


for _name, _says in _ON_AWS.items():
    _hand_over(_name, _says)
