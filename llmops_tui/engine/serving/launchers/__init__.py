"""How each serving engine is started, asked and read. Standard library only: what runs in a replica's run imports this."""
