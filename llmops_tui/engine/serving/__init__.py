"""What serves models: the gateway, and what a replica is started with."""
