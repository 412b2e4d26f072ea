"""What the system is made of on AWS; the local stack reads the same settings."""
