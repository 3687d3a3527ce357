"""Every command of the `:` line in one table: its name, its arguments, what it does, and how its arguments complete."""

from __future__ import annotations

import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_tui.commands.moment import parse_moment, span
from llmops_tui.screens.exporting import FORMATS, RUN_FORMS
from llmops_tui.screens.palettes import PALETTES

if TYPE_CHECKING:
    from llmops_tui.app import LlmopsApp


class CommandError(Exception):
    """What is wrong with the line, for the line itself: one sentence with the way out."""


@dataclass(frozen=True)
class Command:
    """`words`: a list of what may follow, by what was typed so far; `do` gets the rest of the line and raises CommandError."""

    name: str
    arguments: str
    help: str
    do: Callable[[LlmopsApp, str], None]
    words: Callable[[LlmopsApp], Sequence[str]] = lambda app: ()


def _go(mode: str) -> Callable[[LlmopsApp, str], None]:
    def go(app: LlmopsApp, rest: str) -> None:
        _nothing(rest)
        app.call_later(app.action_go, mode)

    return go


def _nothing(rest: str) -> None:
    if rest:
        raise CommandError(f"takes nothing after it, not {rest!r}")


def _run_ids(app: LlmopsApp) -> list[str]:
    return [run["id"] for run in app.state.runs()]


def _open_run(app: LlmopsApp, rest: str) -> None:
    if not rest or " " in rest:
        raise CommandError("name one run, for example :run train-fiqa-0001")
    app.open_run(rest)


def _runs(app: LlmopsApp, rest: str) -> None:
    app.call_later(app.action_go, "runs")
    if rest:
        app.call_later(app.filter_runs, rest)


def _theme(app: LlmopsApp, rest: str) -> None:
    if rest not in PALETTES:
        raise CommandError(f"there is {', '.join(PALETTES)}")
    app.wear(rest)


def _at(app: LlmopsApp, rest: str) -> None:
    if rest in ("", "now", "live"):
        app.leave_past()
        return
    try:
        moment = parse_moment(rest, app.state.now())
    except ValueError as error:
        raise CommandError(str(error)) from None
    app.enter_past(moment)


def _serve(app: LlmopsApp, rest: str) -> None:
    app.serve(rest)


def _chat(app: LlmopsApp, rest: str) -> None:
    endpoint, _, version = rest.partition(" ")
    if not endpoint or " " in version:
        raise CommandError("an endpoint, and a version of it where one is meant: :chat support v4")
    app.open_chat(endpoint, version)


def _requests(app: LlmopsApp, rest: str) -> None:
    from llmops_tui.errors import UsageError
    from llmops_tui.screens.request_filter import read

    try:
        read(rest, app.state.clock())
    except UsageError as error:
        raise CommandError(str(error)) from None
    app.show_requests(rest)


def _low(app: LlmopsApp, rest: str) -> None:
    if rest not in ("on", "off", "auto"):
        raise CommandError("on, off or auto")
    app.slow_line(rest)


def _sql(app: LlmopsApp, rest: str) -> None:
    if not rest:
        raise CommandError("a query, for example :sql SELECT metric, count(*) FROM metrics_long GROUP BY metric")
    app.show_sql(rest)


def _export(app: LlmopsApp, rest: str) -> None:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if len(words) > 2:
        raise CommandError("a format and a file name, for example :export csv runs.csv")
    app.export(*words)


def _ask(app: LlmopsApp, rest: str) -> None:
    run_id, _, message = rest.partition(" ")
    if not run_id or not message.strip():
        raise CommandError("a run and what to ask, for example :ask train-fiqa-0001 may I have GPU 3 at five?")
    app.ask(run_id, message.strip())


def _reserve(app: LlmopsApp, rest: str) -> None:
    words = rest.split(maxsplit=2)
    try:
        gpus = [int(number) for number in words[0].split(",")]
        seconds = span(words[1])
    except (IndexError, ValueError, ArgumentTypeError):
        raise CommandError("GPUs, how long, and why: :reserve 0,1 2h paper deadline") from None
    app.reserve(gpus, seconds, words[2] if len(words) > 2 else "")


def _host(app: LlmopsApp, rest: str) -> None:
    if rest.startswith("-") or " " in rest:
        raise CommandError("one box, as ssh knows it: :host box or :host me@box; :host alone comes back")
    app.go_to_host(rest)


def _hosts(app: LlmopsApp, rest: str) -> None:
    app.show_hosts(rest.split())


def _retry(app: LlmopsApp, rest: str) -> None:
    _nothing(rest)
    app.action_retry()


def _quit(app: LlmopsApp, rest: str) -> None:
    _nothing(rest)
    app.exit()


def _help(app: LlmopsApp, rest: str) -> None:
    _nothing(rest)
    app.call_later(app.action_help)


def _new(app: LlmopsApp, rest: str) -> None:
    from llmops_tui.specs.states import JOB_KINDS

    if rest and rest not in JOB_KINDS:
        raise CommandError(f"there is {', '.join(JOB_KINDS)}")
    app.new_run(rest or None)


def _loadtest(app: LlmopsApp, rest: str) -> None:
    if not rest or " " in rest:
        raise CommandError("name an endpoint, or one of its versions: support:v4")
    app.new_run("loadtest", given={"endpoint": rest})


def _kinds(app: LlmopsApp) -> Sequence[str]:
    from llmops_tui.specs.states import JOB_KINDS

    return JOB_KINDS


_FILTERS = ("state:running", "kind:train", "tag:", "baseline:yes")

COMMANDS: tuple[Command, ...] = (
    Command("pulse", "", "the box, what runs, the curve, events", _go("pulse")),
    Command(
        "runs",
        "[FILTER]",
        "every run; with a filter only those",
        _runs,
        lambda app: _FILTERS,
    ),
    Command("queue", "", "what waits", _go("queue")),
    Command("gpus", "", "who holds what", _go("gpus")),
    Command("inbox", "", "what finished, failed or was asked of you", _go("inbox")),
    Command("endpoints", "", "what is served", _go("serve")),
    Command("serve", "[MODEL]", "serve a model; alone: choose one", _serve),
    Command("chat", "ENDPOINT [VERSION]", "ask an endpoint, see how fast it answers, say what the answers were worth", _chat),
    Command("loadtest", "ENDPOINT[:VERSION]", "the form of a load test, aimed at it", _loadtest),
    Command("requests", "[FILTER]", "what was asked of the endpoints", _requests, lambda app: ("status:error", "slower:500", "endpoint:")),
    Command("run", "RUN", "the page of a run", _open_run, _run_ids),
    Command("new", "[KIND]", "a new run", _new, _kinds),
    Command("at", "TIME|now", "every panel as it was: 14:30, -20m, 2026-11-23 14:30", _at, lambda app: ("-5m", "-1h", "-1d", "now")),
    Command("sql", "QUERY", "ask the database; numbers are drawn as a chart with `c`", _sql),
    Command("ask", "RUN MESSAGE", "a polite note to the owner of a run", _ask, _run_ids),
    Command("reserve", "GPUS TIME [NOTE]", "keep GPUs for yourself: 0,1 2h paper deadline", _reserve),
    Command("host", "[BOX]", "another box's engine through ssh; alone: back to this one", _host, lambda app: app.settings.hosts),
    Command("hosts", "[BOX …]", "the Pulse of several boxes side by side", _hosts, lambda app: app.settings.hosts),
    Command("theme", "NAME", "other colours", _theme, lambda app: tuple(PALETTES)),
    Command("low", "on|off|auto", "low-bandwidth mode", _low, lambda app: ("on", "off", "auto")),
    Command(
        "export",
        "[svg|text|csv|json|markdown|tensorboard|mlflow|run-csv] [FILE]",
        "write what is shown, or the whole run",
        _export,
        lambda app: (*FORMATS, *RUN_FORMS),
    ),
    Command("refresh", "", "ask the engine again now", _retry),
    Command("help", "", "the keys", _help),
    Command("q", "", "leave; every run goes on", _quit),
)


def suggestions(app: LlmopsApp, line: str) -> list[tuple[str, str]]:
    """`(line, what it does)` for what the line may become, best first; pure but for the runs the app knows."""
    name, space, rest = line.lstrip().partition(" ")
    if not space:
        starts = [command for command in COMMANDS if command.name.startswith(name)]
        inside = [command for command in COMMANDS if name in command.name and command not in starts]
        return [(command.name, f"{command.arguments}  {command.help}".strip()) for command in starts + inside]
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        return []
    head, _, last = rest.rpartition(" ")
    begin = f"{name} {head + ' ' if head else ''}"
    return [(begin + word, "") for word in command.words(app) if word.startswith(last) and word != last]


def perform(app: LlmopsApp, line: str) -> None:
    """Do what the line says. Raises CommandError."""
    name, _, rest = line.strip().removeprefix(":").lstrip().partition(" ")
    if not name:
        return
    exact = [command for command in COMMANDS if command.name == name] or [c for c in COMMANDS if c.name.startswith(name)]
    if len(exact) != 1:
        said = "which one" if exact else "there is no such command"
        raise CommandError(f"{said}: {', '.join(command.name for command in exact or COMMANDS)}")
    try:
        exact[0].do(app, rest.strip())
    except CommandError as error:
        raise CommandError(f"{exact[0].name}: {error}") from None
