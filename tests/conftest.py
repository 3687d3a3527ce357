"""What every test may count on."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background ignores SIGINT for them, and an ignored signal stays ignored in every program
# they start: none of those could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
