"""The folders that a deployment uploads: our code, and its packages for Lambda's machine.

`assets.built(platform)` builds what is stale and says where it is; nothing here needs Docker, an
AWS account or the CDK.
"""
