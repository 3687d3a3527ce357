"""The gateway: the OpenAI-compatible door in front of every endpoint, a process of its own.

    python -m llmops_tui.engine.serving.gateway HOME

One thread, one event loop. It reads HOME/serving/gateway/config.json, which the engine writes, and nothing else of the engine's; it
goes on with the last good one when the engine is away. Beside the standard library it imports uvloop, httptools and orjson only.

The way of a request: client.py (a connection) -> http_request.py (its bytes) -> exchange.py (key, body, route, attempts) -> upstream.py
(a replica's connection) -> answer.py, sse.py (the answer on its way back) -> record.py and spool.py (the line that is kept) -> the
client's last byte.
"""
