"""What the system is made of on AWS; the local stack reads the same settings.

Read in this order; nothing here but `infra.cdk` imports the CDK.

    functions.py     every function: its purpose, trigger, memory and timeout
    tables.py        every table: its purpose, key and indexes
    deployments.py   what differs between `dev`, `prod` and yours; `context.py` reads it
    environment.py   what each function is told: environment variables, secrets, buckets
    permissions.py   what each function may do, and why
    alarms.py        when an operator is told, and where the runbook says what to do
    dashboard.py     what an operator looks at

    cdk/             turns these into CloudFormation; begin with `app.py`
    packaging/       builds what Lambda is given, within `budgets.py`
    operate/         what a person does with a deployment
    cost/, scale/    what it costs, and how far it goes

`acknowledgements.py` says which rules of cdk-nag are broken, and why; `permission_page.py` writes
`docs/permissions.md`. The same as pictures and tables: `docs/aws.md`.
"""
