"""The words a route and a server are told by. Standard library only: the command line and the console offer them without the specs.

A test holds them against the specs' own.
"""

from __future__ import annotations

SERVING_RUNTIMES = ("auto", "llamacpp", "vllm", "transformers")
STICKY = ("none", "key", "session")
BALANCE = ("least_tokens", "prefix", "round_robin")
YIELDS = ("never", "idle", "always")
SWAPS = ("auto", "blue_green", "drain")
