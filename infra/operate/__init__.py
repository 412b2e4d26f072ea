"""What a person does with a deployment from a terminal: `python -m infra.operate`."""
