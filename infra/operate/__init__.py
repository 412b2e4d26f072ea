"""What a person does with a deployment from a terminal: the command `stripemeter`."""
