"""A quantized directory heard and timed in a process of its own, by the Python that can load it, which may have nothing of ours.

    PYTHON -I speaking_apart.py SETTINGS.json

SETTINGS.json: `{"model", "device", "threads", "rows": [{"ids", "labels"}], "order": [index], "heard": FILE.safetensors or "",
"prompts": [[id]], "answer_tokens": n, "endings": [[id]], "stops": [id], "most_tokens": n, "answer": FILE.json}`. Written are the
last hidden states before each labelled token with the output matrix, and how fast the prompts were answered. Progress goes to stdout
as lines `progress DONE TOTAL WORDS`.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
import warnings
from typing import Any

IGNORED = -100


def main(arguments: list[str]) -> int:
    """Hear, let speak, time."""
    with open(arguments[0], encoding="utf-8") as file:
        settings = json.load(file)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as library_logging

    library_logging.disable_progress_bar()
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    device = settings["device"]
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype="auto", attn_implementation="sdpa", device_map={"": device})
    model.eval()
    answer: dict[str, Any] = {"dtype": str(model.dtype).removeprefix("torch.")}
    with torch.inference_mode():
        # Timed first: what hearing takes of memory is no server's.
        if settings["prompts"]:
            answer.update(timed(model, settings["prompts"], settings["answer_tokens"], device))
        if settings["endings"]:
            answer["ended"] = count_ended(model, settings["endings"], settings["stops"], settings["most_tokens"], device)
        if settings["heard"]:
            hear(model, settings["rows"], settings["order"], settings["heard"], device)
    staged = settings["answer"] + ".tmp"
    with open(staged, "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(staged, settings["answer"])
    return 0


def hear(model: Any, rows: list[dict[str, list[int]]], order: list[int], target: str, device: str) -> None:
    """One row after the other: their lengths differ, and padding is work."""
    import torch
    from safetensors.torch import save_file

    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or not head.weight.is_floating_point():
        raise SystemExit(f"error: the output matrix is a {type(head).__name__}: it was to be left as it is")
    backbone = getattr(model, model.base_model_prefix)
    states = []
    total = sum(len(row["ids"]) for row in rows)
    done = 0
    for index in order:
        row = rows[index]
        hidden = backbone(input_ids=torch.tensor([row["ids"]], device=device), use_cache=False).last_hidden_state[0]
        places = [place for place, label in enumerate(row["labels"][1:]) if label != IGNORED]
        states.append(hidden[places].cpu())
        done += len(row["ids"])
        print(f"progress {done} {total} hearing", flush=True)
    found = {"states": torch.cat(states), "weight": head.weight.detach().cpu().clone()}
    if head.bias is not None:
        found["bias"] = head.bias.detach().cpu().clone()
    save_file(found, target)


def timed(model: Any, prompts: list[list[int]], tokens: int, device: str) -> dict[str, float]:
    """Seconds to the first token and tokens a second after it, greedily, one prompt after the other; the first is answered twice."""
    import torch

    firsts: list[float] = []
    spent = answered = 0.0
    for number, prompt in enumerate([prompts[0], *prompts]):
        ids = torch.tensor([prompt], device=device)
        clock = Clock()
        begun = time.perf_counter()
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            temperature=None, top_p=None, top_k=None, streamer=clock,
        )  # fmt: skip
        print(f"progress {number + 1} {len(prompts) + 1} answering", flush=True)
        if number:  # the first one warms up
            firsts.append(clock.at[0] - begun)
            spent += clock.at[-1] - clock.at[0]
            answered += len(clock.at) - 1
    return {
        "ttft_seconds": statistics.median(firsts),
        "tokens_per_second": answered / spent,
        "memory_bytes": torch.cuda.max_memory_allocated() if device.startswith("cuda") else resident_bytes(),
    }


class Clock:
    """A streamer of `generate` that notes when each token came: the prompt is put first."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._prompt = True

    def put(self, _: Any) -> None:
        if not self._prompt:
            self.at.append(time.perf_counter())
        self._prompt = False

    def end(self) -> None:
        pass


def count_ended(model: Any, prompts: list[list[int]], stops: list[int], most_tokens: int, device: str) -> int:
    """How many of the prompts it ends by itself."""
    import torch

    ended = 0
    for prompt in prompts:
        ids = torch.tensor([prompt], device=device)
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most_tokens, do_sample=False, temperature=None,
            top_p=None, top_k=None, eos_token_id=stops or None,
        )  # fmt: skip
        ended += int(output[0, -1]) in stops
    return ended


def resident_bytes() -> int:
    """What this process holds of the host's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
