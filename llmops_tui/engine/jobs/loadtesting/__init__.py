"""How an endpoint is loaded: when requests are due, what they ask, how they are timed, and what is made of the times."""
