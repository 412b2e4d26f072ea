"""What a deployment costs: list prices, what was measured here, and the arithmetic between them."""
