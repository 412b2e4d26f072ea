"""The tables behind the ports, by DynamoDB's low-level client."""
