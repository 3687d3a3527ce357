"""How commands reach the engine."""

from __future__ import annotations

import argparse

from llmops_tui.client import Client
from llmops_tui.paths import find_home


def connect(args: argparse.Namespace) -> Client:
    """A client of the engine of `--home`; the engine is started where there is none. Raises EngineUnavailableError."""
    client = Client(find_home(args.home))
    client.ensure_engine()
    return client
