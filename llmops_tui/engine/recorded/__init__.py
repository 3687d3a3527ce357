"""What the gateway recorded: taken into the database, kept as long as wished, and told."""
