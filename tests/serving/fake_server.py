"""A server as llama.cpp's or vLLM's, that does what a file tells it: run by the fake runtime's interpreter (fake_runtime.py).

    fake_server.py DIR -I llamacpp_server.py SETTINGS.json      serves; `DIR/moods.json` says how, by the model's name on the disk
    fake_server.py DIR -m vllm.entrypoints.openai.api_server --model …  the same, with vLLM's sleep, adapters and metrics,
                                                                      the former two only where they were asked for, as there
    fake_server.py DIR -c CODE                                   answers a runtime's check

A mood, of these:
`exit` and `say` (it dies at its start), `die_at` (in the n-th answer), `refuse` (503 to all),
`wait` (seconds an answer takes), `text` (what it says), `dream` (what it says once it has slept).
Each start is a line of `DIR/starts.jsonl`. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server(ThreadingHTTPServer):
    """One model; its mood is read anew for each answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        params = settings["params"]
        self.names: dict[str, str] = {}
        self.slept = False
        self.directory = directory
        self.model = Path(params["model.path"]).stem
        self.vllm = bool(settings.get("vllm"))
        words = settings.get("argv", [])
        self.may_sleep = "--enable-sleep-mode" in words and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
        self.takes_loras = "--enable-lora" in words and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True"
        self.adapters = [Path(path).stem for path in settings["adapters"]]
        self.names.update(settings.get("loras", {}))
        self.applied: int | None = None
        self.lock = threading.Lock()
        self.answering = 0
        self.answered = 0
        super().__init__((params["hostnames"][0], params["port"]), Handler)

    @property
    def mood(self) -> dict[str, Any]:
        return read_moods(self.directory).get(self.model, {})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/metrics":
            running = self.server.answering
            lines = (f"llamacpp:requests_processing {running}", "llamacpp:requests_deferred 0")
            told = lines if not self.server.vllm else (f'vllm:num_requests_running{{model_name="m"}} {running}',)
            self._answer("\n".join(told).encode(), "text/plain")
        else:
            self._answer(json.dumps({"status": "ok", "data": [{"id": self.server.model}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if self.path == "/lora-adapters":
            self.server.applied = next((one["id"] for one in body if one["scale"]), None)
            return self._answer(b"[]")
        if self._manage(body):
            return None
        with self.server.lock:
            self.server.answering += 1
            self.server.answered += 1
            number = self.server.answered
        try:
            mood = self.server.mood
            if mood.get("die_at") == number:
                os.kill(os.getpid(), signal.SIGKILL)
            self._complete(body, mood)
        finally:
            with self.server.lock:
                self.server.answering -= 1
        return None

    def _manage(self, body: dict[str, Any]) -> bool:
        """vLLM's other routes; whether it was one of them."""
        server, path = self.server, self.path.partition("?")[0]
        if (path in ("/sleep", "/wake_up") and not server.may_sleep) or (path.endswith("_lora_adapter") and not server.takes_loras):
            self._answer(b'{"detail": "Not Found"}', status=404)
            return True
        if path in ("/sleep", "/wake_up"):
            server.slept = server.slept or path == "/sleep"
            with open(server.directory / "slept.jsonl", "a") as file:
                file.write(json.dumps({"path": self.path, "answering": server.answering}) + "\n")
        elif path == "/v1/load_lora_adapter":
            server.names[body["lora_name"]] = Path(body["lora_path"]).name
        elif path == "/v1/unload_lora_adapter":
            server.names.pop(body["lora_name"])
        else:
            return False
        self._answer(b"{}")
        return True

    def _complete(self, body: dict[str, Any], mood: dict[str, Any]) -> None:
        """`wait` is for what people ask, not for the keeper's own probe."""
        if mood.get("refuse"):
            return self._answer(b'{"error": {"message": "loading"}}', status=503)
        asked = body.get("messages") is not None
        lora = next((one["id"] for one in body.get("lora") or () if one["scale"]), self.server.applied)
        if self.server.vllm and body["model"] in self.server.names:
            mood = {**mood, "text": f"{self.server.model}+{self.server.names[body['model']]}"}
        if self.server.slept and "dream" in mood:
            mood = {**mood, "text": mood["dream"]}
        text = mood.get("text") or "+".join([self.server.model, *([self.server.adapters[lora]] if lora is not None else [])])
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        words = [text, " a", " b", " c"]
        pause = float(mood.get("wait", 0.0)) / len(words) if asked else 0.0
        if not body.get("stream"):
            time.sleep(pause * len(words))
            choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
            choice |= {"message": {"role": "assistant", "content": text}} if asked else {"text": text}
            return self._answer(json.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}).encode())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in words:
            self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            time.sleep(pause)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        return self._chunk(b"")

    def _event(self, value: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps({"object": "chat.completion.chunk", "model": "m", **value}).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer(self, content: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def read_moods(directory: Path) -> dict[str, dict[str, Any]]:
    try:
        moods: dict[str, dict[str, Any]] = json.loads((directory / "moods.json").read_bytes())
    except FileNotFoundError:
        return {}
    return moods


def _settings(arguments: list[str]) -> dict[str, Any]:
    """llama.cpp's are in a file; vLLM's are words."""
    if arguments[0] == "-I":
        settings: dict[str, Any] = json.loads(Path(arguments[2]).read_bytes())
        return settings
    told = dict(itertools.pairwise(arguments))
    params = {"model.path": told["--model"], "hostnames": [told["--host"]], "port": int(told["--port"])}
    loras = dict(word.split("=", 1) for word in arguments[arguments.index("--lora-modules") + 1 :]) if "--lora-modules" in arguments else {}
    names = {name: Path(path).name for name, path in loras.items()}
    return {"params": params, "adapters": [], "threads": 0, "vllm": True, "loras": names, "argv": arguments}


def main(directory: Path, arguments: list[str]) -> int:
    if arguments[0] == "-c":
        gpu = (directory / "gpu").exists()
        print("llmops-runtime " + json.dumps({"devices": [{"name": "played", "kind": "gpu" if gpu else "cpu"}], "gpu": gpu}))
        return 0
    settings = _settings(arguments)
    model = Path(settings["params"]["model.path"]).stem
    with open(directory / "starts.jsonl", "a") as file:
        told = {"threads": settings["threads"], "argv": settings.get("argv", []), **settings["params"]}
        file.write(json.dumps({"pid": os.getpid(), "model": model, **told}) + "\n")
    mood = read_moods(directory).get(model, {})
    if "say" in mood:
        print(mood["say"], file=sys.stderr, flush=True)
    if "exit" in mood:
        if mood["exit"] < 0:
            os.kill(os.getpid(), -mood["exit"])
        return int(mood["exit"])
    Server(directory, settings).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
