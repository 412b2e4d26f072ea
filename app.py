"""What the command `cdk` runs: `npx cdk synth`, `npx cdk deploy --all -c env=prod`."""

from infra.cdk.app import main

main()
