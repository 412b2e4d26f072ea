"""The CDK app: the only place that imports `aws_cdk`. `infra.cdk.app` says what there is."""

import os

# Node 20 still runs the CDK; its notice of end of life would hide what matters.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "18,20")
