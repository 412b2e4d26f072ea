"""The operator's commands. Each imports what it needs only when it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from infra.operate import tenant_cli

main = typer.Typer(
    name="stripemeter",
    help="StripeMeter on AWS: check, set up and look after a deployment.",
    epilog="Examples:  stripemeter smoke --env dev   |   make deploy ENV=dev",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
archive = typer.Typer(help="The ledger's archive in S3.", no_args_is_help=True)
main.add_typer(archive, name="archive")
main.add_typer(tenant_cli.main, name="tenant")

Env = Annotated[str, typer.Option("--env", help="Which deployment, as in `make deploy ENV=dev`.")]


def fail(why: str) -> typer.Exit:
    """Say why on the error output; raise what this answers, and the exit code is 1."""
    typer.echo(f"error: {why}", err=True)
    return typer.Exit(1)


@contextmanager
def _told(env: str) -> Iterator[None]:
    """What cannot be done is said in one sentence, without a trace."""
    from infra.operate.place import MissingOutputsError, UnknownDeploymentError
    from infra.operate.tenants import TenantError, in_words

    try:
        with in_words(env):
            yield
    except (MissingOutputsError, TenantError, UnknownDeploymentError) as refused:
        raise fail(str(refused)) from None


@main.command(epilog="Example:  stripemeter preflight --env dev")
def preflight(env: Env) -> None:
    """Check what a deployment needs, and say how to fix what is missing; exit code 0 if nothing."""
    from infra.operate import checks, preflight

    raise typer.Exit(checks.show(f"Before deploying {env}", preflight.run(env)))


@main.command(epilog="Example:  stripemeter outputs --env dev")
def outputs(env: Env) -> None:
    """Show where a deployment is, and what to do next."""
    from infra.operate import outputs

    with _told(env):
        outputs.show(env)


@main.command(
    epilog="Examples:  STRIPEMETER_KEY=sm_... stripemeter smoke --env dev   |   stripemeter smoke"
    " --api-url http://127.0.0.1:3000"
)
def smoke(
    env: Annotated[str | None, typer.Option("--env", help="Finds the API in its outputs.")] = None,
    api_url: Annotated[str | None, typer.Option(help="Where the API is, instead of --env.")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="STRIPEMETER_KEY",
            help="An API key; better not typed. On loopback none is needed.",
        ),
    ] = None,
    events: Annotated[int, typer.Option(min=1, max=500, help="How many to send, twice.")] = 25,
    within: Annotated[float, typer.Option(help="Seconds until all must be counted.")] = 120.0,
) -> None:
    """Send events twice, and see that each is counted once; exit code 0 if all is right."""
    from infra.operate import checks, smoke
    from infra.operate.place import MissingOutputsError, api_url_of

    if not api_url and not env:
        raise fail("say where the API is: --env dev, or --api-url https://...")
    try:
        url = api_url or api_url_of(env or "")
    except MissingOutputsError as missing:
        raise fail(str(missing)) from None
    if not key and not smoke.is_local(url):
        raise fail(
            "no API key: put one into the environment variable STRIPEMETER_KEY"
            " (`.venv/bin/stripemeter tenant create acme --env dev` makes a tenant and its first"
            " key)"
        )
    plan = smoke.Plan(url, key or "", events, within)
    raise typer.Exit(checks.show(f"Smoke test of {url}", smoke.run(plan)))


@main.command(epilog="Example:  stripemeter canary --env dev")
def canary(env: Env) -> None:
    """Give the canary its tenant and a key of its own; again, and the key is a new one."""
    from infra.operate import canary_key

    with _told(env):
        prefix = canary_key.give(env)
    typer.echo(
        f"The canary of {env} calls with the key {prefix} from its next run on. It stands in the"
        f" secret {canary_key.secret_of(env)}, and nowhere else."
    )


@main.command(epilog="Examples:  make destroy ENV=dev   |   make destroy ENV=prod CONFIRM=prod")
def destroy(
    env: Env,
    confirm: Annotated[str, typer.Option(help="The name once more, where data is kept.")] = "",
) -> None:
    """Remove a deployment, and say what stays; one that keeps data asks for its name once more."""
    from infra.operate import destroy
    from infra.operate.place import UnknownDeploymentError

    try:
        destroy.run(env, confirm)
    except (destroy.NotConfirmedError, UnknownDeploymentError) as refused:
        raise fail(str(refused)) from None


@archive.command("list", epilog="Example:  stripemeter archive list --env prod")
def archive_list(env: Env) -> None:
    """List the windows of time that were exported, with the manifests that name their files."""
    from infra.operate import archive

    with _told(env):
        archive.show(env)


@archive.command("read", epilog="Example:  stripemeter archive read ./ledger > events.jsonl")
def archive_read(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
) -> None:
    """Print each usage event in a folder of exports once, a line of JSON each.

    `aws s3 sync s3://BUCKET/ledger ./ledger` fetches them.
    """
    from infra.operate import archive

    for line in archive.lines(folder):
        typer.echo(line)
