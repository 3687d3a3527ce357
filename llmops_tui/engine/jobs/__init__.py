"""What runs inside a job's own process; nothing here imports the database."""
