"""The daemon: owns the database, the queue and the GPU ledger."""
