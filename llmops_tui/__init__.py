"""llmops-tui: an ops console for LLMs in the terminal."""

__version__ = "0.1.0"
