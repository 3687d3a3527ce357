"""The commands of serving: endpoints with their routes, keys and answers, and the runtimes that answer."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING

from llmops_tui.commands.moment import EXAMPLES as MOMENTS
from llmops_tui.commands.moment import moment, span
from llmops_tui.commands.parser import Parser
from llmops_tui.commands.verbs import command, natural, noun, positive
from llmops_tui.specs.serving_words import BALANCE, SERVING_RUNTIMES, STICKY

if TYPE_CHECKING:
    from llmops_tui.commands.verbs import Group


def add_endpoints(nouns: Group, common: Parser) -> None:
    """The noun `endpoints`."""
    endpoints = noun(nouns, common, "endpoints", "serve models behind one OpenAI-compatible address")
    command(endpoints, common, "list", "endpoints:list_endpoints", "list the endpoints: versions, shares of the requests, servers")
    _with_name(
        command(
            endpoints, common, "show", "endpoints:show", "show an endpoint: versions, servers, route, history, and a request to copy",
            ("llmops-tui endpoints show support", ""),
        )
    )  # fmt: skip
    _add_start(endpoints, common)
    stop = _with_name(
        command(
            endpoints, common, "stop", "endpoints:stop", "stop an endpoint: no new requests; what is under way is answered",
            ("llmops-tui endpoints stop support --yes", "without a question"),
        )
    )  # fmt: skip
    stop.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_routing(endpoints, common)
    _add_versions(endpoints, common)
    _add_asking(endpoints, common)
    _add_keys(endpoints, common)
    command(endpoints, common, "gateway", "endpoints_keys:gateway", "show the gateway: where it listens, since when, what it holds")
    latency = _with_name(
        command(
            endpoints, common, "latency", "endpoints_latency:latency", "show how fast an endpoint answers, by version: now, or its history",
            ("llmops-tui endpoints latency support", "the last 1, 5 and 60 minutes, and the load of its servers"),
            ("llmops-tui endpoints latency support --since 2h --points 24 --json", ""),
        )
    )  # fmt: skip
    latency.add_argument("--since", type=moment, default=None, metavar="TIME", help=f"the history from then on: {MOMENTS}")
    latency.add_argument("--until", type=moment, default=None, metavar="TIME", help="and no longer than until then (default: now)")
    latency.add_argument("--points", type=positive, default=24, metavar="N", help="stretches the history is cut into (default: 24)")


def add_runtimes(nouns: Group, common: Parser) -> None:
    """The noun `runtimes`."""
    runtimes = noun(nouns, common, "runtimes", "serving engines and quantizers, each in an environment of its own")
    command(runtimes, common, "list", "runtimes:list_runtimes", "list the runtimes: which are installed, and where")
    check = command(
        runtimes, common, "check", "runtimes:check", "ask runtimes what they are and can (exit code 1 when one cannot work)",
        ("llmops-tui runtimes check", "every one that is installed"),
        ("llmops-tui runtimes check llamacpp", ""),
    )  # fmt: skip
    check.add_argument("name", nargs="*", metavar="NAME", help="as `runtimes list` has it; without one: every one that is installed")
    install = command(
        runtimes, common, "install", "runtimes:install", "make a runtime's environment, as a supervised run",
        ("llmops-tui runtimes install vllm", "from the package index"),
        ("llmops-tui runtimes install vllm --wheels ./wheels", "without a network"),
    )  # fmt: skip
    install.add_argument("name", metavar="NAME", help="as `runtimes list` has it")
    install.add_argument("--wheels", default="", metavar="DIR", help="a directory of wheels in place of the package index")
    install.add_argument("--no-wait", action="store_true", help="print the run's id and leave; `runs watch` follows it")


def _add_start(endpoints: Group, common: Parser) -> None:
    start = command(
        endpoints, common, "start", "endpoints_start:start", "serve a model; waits until it answers and prints a request to copy",
        ("llmops-tui endpoints start support@v3", "a registered model, a finished run, a directory or a GGUF file"),
        ("llmops-tui endpoints start ./model.gguf --name chat --context 4096 --slots 8", ""),
        ("llmops-tui endpoints start support@v3 --on-demand --idle-unload 15m", "loaded by the first request, unloaded when idle"),
        ("llmops-tui endpoints start -f endpoint.yaml --dry-run", "check everything, start nothing"),
        ("llmops-tui endpoints start --provider openai --name gpt", "a provider of the settings behind a name of your own"),
    )  # fmt: skip
    start.add_argument("model", nargs="?", default=None, metavar="MODEL", help="a model, a finished run, a directory or a GGUF file")
    start.add_argument("-f", "--file", metavar="FILE", help="the endpoint's spec, YAML or JSON; - reads it from stdin")
    start.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="a key of the endpoint, over the file's; serve.KEY: of its servers",
    )  # fmt: skip
    start.add_argument("--name", metavar="NAME", help="what requests call it (default: the model's name)")
    start.add_argument("--alias", action="append", default=[], metavar="NAME", help="another name for it")
    start.add_argument("--provider", default="", metavar="NAME", help="a provider of the settings in place of a model")
    _with_server(start)
    start.add_argument("--replicas", type=natural, default=None, metavar="N", help="servers of it (default: 1)")
    start.add_argument("--on-demand", action="store_true", help="start its servers when the first request comes, which waits")
    start.add_argument("--idle-unload", type=span, default=None, metavar="TIME", help="unload after so long without a request: 15m, 2h")
    start.add_argument("--pin", action="store_true", help="never unload it, neither when idle nor for a training run")
    start.add_argument("--keep-text", type=fraction, default=None, metavar="SHARE", help="share of the requests whose text is kept, 0 to 1")
    start.add_argument("--dry-run", action="store_true", help="check spec, model, memory and port; start nothing")
    _with_waiting(start)


def _add_routing(endpoints: Group, common: Parser) -> None:
    route = _with_name(
        command(
            endpoints, common, "route", "endpoints_route:route", "set which versions answer, and how requests are spread over them",
            ("llmops-tui endpoints route support v3=95 v4=5", "a canary: 5 of 100 requests go to v4"),
            ("llmops-tui endpoints route support --mirror v4=0.1", "v4 also gets a tenth of them; its answers are thrown away"),
            ("llmops-tui endpoints route support --mirror none", ""),
            ("llmops-tui endpoints route support --fallback gpt --sticky session", ""),
        )
    )  # fmt: skip
    route.add_argument("weights", nargs="*", type=weight, metavar="VERSION=WEIGHT", help="versions not named get no requests")
    route.add_argument(
        "--mirror", action="append", type=mirror_share, default=None, metavar="VERSION=SHARE",
        help="shadow traffic for a version, 0 to 1; none ends it",
    )  # fmt: skip
    route.add_argument("--sticky", choices=STICKY, default=None, metavar="WHO", help="stay with one version and server: none, key, session")
    route.add_argument(
        "--balance", choices=BALANCE, default=None, metavar="HOW", help="between a version's servers: least_tokens, prefix, round_robin"
    )
    route.add_argument(
        "--fallback",
        action="append",
        default=None,
        metavar="ENDPOINT",
        help="asked where this one cannot answer, in this order; none: nobody",
    )
    _with_waiting(route)

    _with_waiting(
        _with_name(
            command(
                endpoints, common, "rollback", "endpoints_route:rollback", "go back to the version before; it holds for the next request",
                ("llmops-tui endpoints rollback support", "also gives up a swap that is under way"),
            )
        )
    )  # fmt: skip
    swap = _with_name(
        command(
            endpoints, common, "swap", "endpoints_route:swap", "put a new version in the place of the one that answers; no request fails",
            ("llmops-tui endpoints swap support support@v4", "the version before stays warm for a while: `endpoints rollback`"),
        )
    )  # fmt: skip
    swap.add_argument("model", metavar="MODEL", help="a model, a finished run, a directory or a GGUF file")
    _with_server(swap)
    _with_serve_settings(swap)
    _with_waiting(swap)

    for verb, summary in (("pin", "never unload it, neither when idle nor for a training run"), ("unpin", "unload it as its spec says")):
        _with_name(command(endpoints, common, verb, "endpoints_route:pin", summary)).set_defaults(pinned=verb == "pin")
    _with_name(command(endpoints, common, "unload", "endpoints_route:unload", "free its memory until the next request, which starts it"))
    _with_waiting(
        _with_name(command(endpoints, common, "wake", "endpoints_route:wake", "start an endpoint that is asleep, without a request"))
    )
    scale = _with_name(
        command(
            endpoints, common, "scale", "endpoints_route:scale", "set how many servers a version has",
            ("llmops-tui endpoints scale support 3", ""),
        )
    )  # fmt: skip
    scale.add_argument("count", type=natural, metavar="N", help="servers that are kept running")
    _with_version(scale, "which version (default: the one with the most requests)")
    _with_waiting(scale)


def _add_versions(endpoints: Group, common: Parser) -> None:
    version = noun(endpoints, common, "version", "add and remove versions of an endpoint")
    added = _with_name(
        command(
            version, common, "add", "endpoints_versions:add_version", "add a version; it gets no requests until it is routed",
            ("llmops-tui endpoints version add support support@v4", "ask it: `endpoints chat support --version v4`"),
            ("llmops-tui endpoints version add support --provider openai --as gpt", ""),
        )
    )  # fmt: skip
    added.add_argument("model", nargs="?", default="", metavar="MODEL", help="a model, a finished run, a directory or a GGUF file")
    added.add_argument("--provider", default="", metavar="NAME", help="a provider of the settings in place of a model")
    added.add_argument("--as", dest="called", default="", metavar="VERSION", help="its name (default: the model's own number, as v4)")
    _with_server(added)
    _with_serve_settings(added)
    added.add_argument("--replicas", type=natural, default=1, metavar="N", help="servers of it (default: 1)")
    gone = _with_name(
        command(version, common, "remove", "endpoints_versions:remove_version", "remove a version that gets no requests")
    )  # fmt: skip
    gone.add_argument("version", metavar="VERSION", help="as `endpoints show` has it")

    adapter = noun(endpoints, common, "adapter", "load adapters on the servers of a version, and take them off")
    loaded = _with_name(
        command(
            adapter, common, "add", "endpoints_versions:add_adapter", "load an adapter beside its base, as a version of its own",
            ("llmops-tui endpoints adapter add support polite polite-lora@v2", "requests name it support:polite"),
        )
    )  # fmt: skip
    loaded.add_argument("adapter", metavar="ADAPTER", help="the name it gets here")
    loaded.add_argument("model", metavar="MODEL", help="a registered adapter, its directory, or a GGUF-LoRA file")
    _with_version(loaded, "on whose servers (default: the version with the most requests)")
    off = _with_name(command(adapter, common, "remove", "endpoints_versions:remove_version", "take an adapter off its servers"))
    off.add_argument("version", metavar="ADAPTER", help="as `endpoints show` has it")


def _add_asking(endpoints: Group, common: Parser) -> None:
    chat = _with_name(
        command(
            endpoints, common, "chat", "endpoints_chat:chat", "ask an endpoint; the answer streams to stdout",
            ('llmops-tui endpoints chat support "Where is my parcel?"', ""),
            ("llmops-tui endpoints chat support", "a conversation; /help says what can be typed"),
            ("git diff | llmops-tui endpoints chat support --system 'Review this.'", "the prompt from stdin"),
            ("llmops-tui endpoints chat support --version v4 --set top_k=40 hello", "one version outright; any field of the request"),
        )
    )  # fmt: skip
    chat.add_argument("prompt", nargs="?", default=None, metavar="PROMPT", help="what to ask; - reads it from stdin")
    _with_version(chat, "this version, whatever the route says")
    chat.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    chat.add_argument("--temperature", type=number_from_zero, default=None, metavar="T", help="0: always the likeliest token")
    chat.add_argument("--top-p", type=fraction, default=None, metavar="P", help="only the likeliest tokens that make up this share")
    chat.add_argument("--max-tokens", type=positive, default=None, metavar="N", help="an answer is cut there")
    chat.add_argument("--seed", type=natural, default=None, metavar="N", help="the same answer again, where the runtime can")
    chat.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a further field of the request, as OpenAI's API has it",
    )
    chat.add_argument("-q", "--quiet", action="store_true", help="no line of figures after an answer")
    feedback = command(
        endpoints, common, "feedback", "endpoints_chat:feedback", "say what an answer was worth; it is kept beside the request",
        ("llmops-tui endpoints feedback req_0f3a up", ""),
        ('llmops-tui endpoints feedback req_0f3a down --correction "It arrives on Monday."', "- reads the correction from stdin"),
    )  # fmt: skip
    feedback.add_argument("request", metavar="REQUEST_ID", help="the answer's x-request-id; `endpoints chat` prints it")
    feedback.add_argument("rating", nargs="?", type=rating, default=None, metavar="RATING", help="up, down or a number")
    feedback.add_argument("--comment", default="", metavar="TEXT", help="why")
    feedback.add_argument("--correction", default="", metavar="TEXT", help="what the answer should have been; - reads it from stdin")


def _add_keys(endpoints: Group, common: Parser) -> None:
    keys = noun(endpoints, common, "keys", "who may ask: keys of the gateway, with limits")
    command(keys, common, "list", "endpoints_keys:list_keys", "list the keys; what they open and how much they may")
    create = command(
        keys, common, "create", "endpoints_keys:create", "make a key; its secret is printed once and kept nowhere",
        ("llmops-tui endpoints keys create web --endpoint support --requests-per-minute 60", ""),
        ("export LLMOPS_KEY=$(llmops-tui endpoints keys create me)", ""),
    )  # fmt: skip
    create.add_argument("name", metavar="NAME", help="whose or what for")
    create.add_argument("--endpoint", action="append", default=[], metavar="ENDPOINT", help="only these (default: all)")
    create.add_argument("--requests-per-minute", type=positive, default=0, metavar="N", help="more are refused (429)")
    create.add_argument("--tokens-per-minute", type=positive, default=0, metavar="N", help="prompt and answer together")
    create.add_argument("--tokens-per-day", type=positive, default=0, metavar="N", help="its quota, from midnight UTC on")
    create.add_argument("--concurrent", type=positive, default=0, metavar="N", help="requests at the same time")
    revoke = command(keys, common, "revoke", "endpoints_keys:revoke", "revoke a key; it opens nothing from the next request on")
    revoke.add_argument("id", metavar="ID", help="as `endpoints keys list` shows it, or its name")


def _with_name(parser: Parser) -> Parser:
    parser.add_argument("name", metavar="NAME", help="the endpoint's name, or an alias of it")
    return parser


def _with_version(parser: Parser, told: str) -> None:
    parser.add_argument("--version", default="", metavar="VERSION", help=told)


def _with_server(parser: Parser) -> None:
    """What of a server is asked for most; the rest are keys of its spec."""
    parser.add_argument(
        "--runtime", choices=SERVING_RUNTIMES, default=None, metavar="RUNTIME", help="llamacpp, vllm, transformers, or auto (default)"
    )
    parser.add_argument(
        "--context", type=positive, default=None, metavar="TOKENS", help="of one conversation (default: the model's, or what fits)"
    )
    parser.add_argument("--slots", type=positive, default=None, metavar="N", help="requests answered at the same time")
    parser.add_argument("--threads", type=positive, default=None, metavar="N", help="CPU threads")
    parser.add_argument(
        "--gpus", type=natural, default=None, metavar="N", help="GPUs of each server; 0: none (default: one where there is one)"
    )


def _with_serve_settings(parser: Parser) -> None:
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of its servers' spec (kind serve, docs/specs.md)",
    )


def _with_waiting(parser: Parser) -> Parser:
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it holds; `endpoints show` tells how far it is")
    return parser


def weight(text: str) -> tuple[str, float]:
    """An argument like `v3=95`, the percent sign may stand."""
    name, value = _pair(text, "v3=95")
    amount = _number(value.removesuffix("%"))
    if amount is None or amount < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a weight is a number of 0 or more, as v3=95")
    return name, amount


def mirror_share(text: str) -> tuple[str, float] | None:
    """An argument like `v4=0.1` or `v4=10%`; `none` is None."""
    if text == "none":
        return None
    name, value = _pair(text, "v4=0.1")
    share = _number(value.removesuffix("%"))
    share = share / 100 if share is not None and value.endswith("%") else share
    if share is None or not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share is a number above 0 and at most 1, as v4=0.1")
    return name, share


def rating(text: str) -> str | float:
    """`up`, `down`, or a number."""
    if text in ("up", "down"):
        return text
    value = _number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no rating; write up, down or a number")
    return value


def fraction(text: str) -> float:
    """An argument from 0 to 1."""
    value = _number(text)
    if value is None or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def number_from_zero(text: str) -> float:
    """An argument that is a number of 0 or more."""
    value = _number(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return value


def _pair(text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not VERSION=NUMBER; write for example {example}")
    return name, value


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
