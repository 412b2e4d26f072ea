"""Removing a deployment, and saying first what stays."""

import os
from collections.abc import Callable

from infra.deployments import Deployment
from infra.operate.place import PROJECT, deployment_named
from infra.tables import TABLES

PIPELINE_STACKS = ("pipeline", "observability")
"""What runs and what watches; the third is `data`."""


class NotConfirmedError(Exception):
    """The deployment keeps data, and nobody has named it twice."""


def run(env: str, confirm: str, *, become: Callable[[list[str]], object] | None = None) -> None:
    """Say what stays, and become the CDK's destroy, which asks once more.

    Raises:
        NotConfirmedError: it keeps data, and `confirm` is not its name.
        UnknownDeploymentError: there is no such deployment.
    """
    deployment = deployment_named(env)
    print("\n".join(what_stays(deployment)), flush=True)  # noqa: T201 (a command)
    if deployment.keeps_data and confirm != env:
        raise NotConfirmedError(
            f"{env} keeps the ledger of real usage; to stop it all the same:"
            f" make destroy ENV={env} CONFIRM={env}"
        )
    (become or _become)(command(deployment))


def command(deployment: Deployment) -> list[str]:
    """The CDK's command line; a data stack that is protected is not even tried."""
    stacks = [deployment.prefix + one for one in PIPELINE_STACKS]
    chosen = stacks if deployment.keeps_data else ["--all"]
    return ["npx", "cdk", "destroy", *chosen, "-c", f"env={deployment.name}"]


def what_stays(deployment: Deployment) -> list[str]:
    """For people: what is left afterwards, and how to remove that too."""
    bootstrap = (
        "What CDK's bootstrap made (its stack, its bucket with our assets) stays for others."
    )
    if not deployment.keeps_data:
        return [
            f"Everything of {deployment.name} goes, tables and buckets with all that they hold.",
            "AWS keeps, next to free: the alarms' key until its deletion in 30 days, a last backup",
            "of each table for 35 days, metrics, and the log of the function that empties buckets",
            f"(/aws/lambda/{deployment.prefix}data-CustomS3AutoDelete...), which you may delete.",
            bootstrap,
        ]
    tables = ", ".join(deployment.prefix + table.name for table in TABLES)
    return [
        f"Functions, API, queues, alarms and dashboard of {deployment.name} go.",
        f"The stack {deployment.prefix}data stays, protected, and costs what it stores:",
        f"  tables   {tables}",
        f"  buckets  {deployment.prefix}archive-..., {deployment.prefix}failures-...",
        f"  secrets  stripemeter/{deployment.name}/...",
        "Deployed again within 24 hours, everything goes on from there. After that the stream has",
        "forgotten what was not counted yet, and a rebuild is needed (docs/runbook.md).",
        bootstrap,
    ]


def _become(arguments: list[str]) -> None:
    os.chdir(PROJECT)
    os.execvp(arguments[0], arguments)  # noqa: S606 (our own words)
