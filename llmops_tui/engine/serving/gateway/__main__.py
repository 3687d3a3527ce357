"""python -m llmops_tui.engine.serving.gateway HOME: one gateway for a state directory, until SIGTERM or POST /control/stop."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import uvloop

from llmops_tui.engine.serving.gateway.process import AnotherGatewayError, most_descriptors, open_log, serve, take_lock


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m llmops_tui.engine.serving.gateway HOME", file=sys.stderr)
        return 2
    directory = Path(sys.argv[1]).absolute() / "serving" / "gateway"
    try:
        take_lock(directory)
        open_log(directory)
        most_descriptors()
        uvloop.run(serve(directory))
    except AnotherGatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        logging.getLogger("gateway").error("ended: %s", error)
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
