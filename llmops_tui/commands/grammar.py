"""Every command, option and example of the command line. Help, completions, the man page and docs/cli.md are made from this.

A command names its handler as text ("runs:show" is `llmops_tui.commands.runs.show`), so that building the parser imports none of them.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui import __version__
from llmops_tui.commands.grammar_alarms import add_alarms
from llmops_tui.commands.grammar_control import add_control
from llmops_tui.commands.grammar_endpoints import add_endpoints, add_runtimes
from llmops_tui.commands.grammar_requests import add_requests
from llmops_tui.commands.grammar_sweeps import add_sweeps
from llmops_tui.commands.moment import EXAMPLES as MOMENTS
from llmops_tui.commands.moment import moment, span
from llmops_tui.commands.parser import Parser
from llmops_tui.commands.verbs import command as _command
from llmops_tui.commands.verbs import examples as _examples
from llmops_tui.commands.verbs import natural, positive
from llmops_tui.commands.verbs import noun as _noun
from llmops_tui.commands.verbs import with_reference as _with_reference
from llmops_tui.commands.verbs import with_run as _with_run
from llmops_tui.specs.states import JOB_KINDS, STATES

if TYPE_CHECKING:
    from llmops_tui.commands.verbs import Group

EXIT_CODES = """exit codes:
  0 ok   1 error   2 usage   3 gate failed   4 not found   5 not enough resources (GPU memory, disk)   130 interrupted"""


def build_parser() -> Parser:
    """The whole grammar."""
    common = _common_options()
    parser = Parser(
        prog="llmops-tui",
        description="An ops console for LLMs in the terminal. Without a command it opens the console.",
        epilog=_examples(
            ("llmops-tui demo", "fine-tune a real small model now"),
            ("llmops-tui run train -f spec.yaml --follow", "start a run and watch it"),
            ("llmops-tui runs list", "what ran, runs and waits"),
            ("llmops-tui status --json", "one object for scripts"),
            ("llmops-tui --host box", "the console on another box's engine, through ssh"),
        )
        + "\n\n"
        + EXIT_CODES,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"llmops-tui {__version__}")
    nouns = parser.add_subparsers(dest="noun", metavar="COMMAND", title="commands", parser_class=Parser)
    _add_box_commands(nouns, common)
    _add_run(nouns, common)
    _add_runs(nouns, common)
    add_sweeps(nouns, common)
    _add_catalog(nouns, common)
    add_endpoints(nouns, common)
    add_requests(nouns, common)
    add_runtimes(nouns, common)
    _add_shell_commands(nouns, common)
    return parser


def _common_options() -> Parser:
    # SUPPRESS: an option given before the noun must not be overwritten by the default of the verb's parser.
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every command")
    group.add_argument("--home", metavar="DIR", help="state directory (default: $LLMOPS_HOME, else $XDG_STATE_HOME/llmops-tui)")
    group.add_argument("--json", action="store_true", help="print data as JSON; streams as JSON lines")
    group.add_argument("--host", metavar="BOX", help="the same on BOX, over ssh; without a command: the console here on the engine there")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return common


def _add_box_commands(nouns: Group, common: Parser) -> None:
    status = _command(
        nouns, common, "status", "status:status", "show the engine, the box, what runs and what waits",
        ("llmops-tui status --json", ""),
        ('llmops-tui status --at "2h ago"', "as it was then"),
    )  # fmt: skip
    gpus = _command(nouns, common, "gpus", "gpus:gpus", "show the GPUs, who holds them and whose processes are on them")
    _add_reservations(gpus, common)
    for parser in (status, gpus):
        parser.add_argument("--at", type=moment, default=None, metavar="TIME", help=f"as it was at that moment: {MOMENTS}")

    audit = _noun(nouns, common, "audit", "who changed what, and when")
    entries = _command(
        audit, common, "list", "people:list_audit", "list changes and refused attempts, oldest first: the newest of those asked for",
        ("llmops-tui audit list --run train-fiqa-0001", ""),
        ("llmops-tui audit list --user ada --since 2d --json", ""),
    )  # fmt: skip
    entries.add_argument("--run", metavar="RUN", help="only what was done to this run")
    entries.add_argument("--user", metavar="USER", help="only what this user did: a name or a uid")
    entries.add_argument("--since", type=moment, default=None, metavar="TIME", help=f"not before: {MOMENTS}")
    entries.add_argument("--limit", type=positive, default=50, metavar="N", help="the newest so many (default: 50)")
    _command(audit, common, "verify", "people:verify_audit", "check that no line of the audit log was changed, removed or moved")

    add_alarms(nouns, common)
    events = _noun(nouns, common, "events", "what happened to runs, GPUs and the engine")
    listing = _command(
        events, common, "list", "events:list_events", "list events, oldest first: the newest ones of those asked for",
        ("llmops-tui events list --since 2h", "all but the steps of progress"),
        ("llmops-tui events list --type run.state --run train-fiqa-0001", ""),
        ("llmops-tui events list -f --json", "what happens from now on, as JSON lines"),
    )  # fmt: skip
    listing.add_argument("--type", action="append", metavar="TYPE", help="only these, for example run.state, gpu.xid, run.progress")
    listing.add_argument("--run", metavar="RUN", help="only this run's")
    listing.add_argument("--since", type=moment, default=None, metavar="TIME", help=f"not before: {MOMENTS}")
    listing.add_argument("--until", type=moment, default=None, metavar="TIME", help="not after")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="the newest so many (default: 50)")
    listing.add_argument("-f", "--follow", action="store_true", help="go on with what happens")

    engine = _noun(nouns, common, "engine", "start and stop the daemon that keeps the runs")
    start = _command(
        engine, common, "start", "engine:start", "start the engine; nothing happens if it already runs",
        ("llmops-tui engine start --foreground", "under a process manager of your own"),
        ("llmops-tui engine start --shared --group ml", "one engine for the members of the group ml"),
    )  # fmt: skip
    start.add_argument("--foreground", action="store_true", help="stay in this terminal; the engine's log goes to stderr")
    start.add_argument("--shared", action="store_true", help="serve a Unix group (see docs/people.md); root's lies in /var/lib/llmops-tui")
    start.add_argument("--group", default="", metavar="NAME", help="the group to serve (default: people.group of the settings)")
    start.add_argument("--read-only", action="store_true", help="refuse every change, whoever asks")
    _command(engine, common, "stop", "engine:stop", "stop the engine; running jobs go on and are adopted at its next start")
    _command(engine, common, "status", "engine:status", "say whether the engine runs, without starting it (exit code 1: it does not)")
    backup = _command(
        engine, common, "backup", "engine:backup", "copy the database to a new file while work goes on",
        ("llmops-tui engine backup /backups/llmops.duckdb", ""),
    )  # fmt: skip
    backup.add_argument("path", metavar="FILE", help="a name that is free; the copy opens like any DuckDB database")
    _command(engine, common, "notify-test", "engine:notify_test", "send a test by the hook and the webhook of [notify]")
    _command(
        engine,
        common,
        "ranks",
        "engine:ranks",
        "processes of a training whose first box started this by ssh (processes.hosts); not by hand",
    )
    service = _noun(engine, common, "service", "keep the engine running by a systemd user unit")
    install = _command(service, common, "install", "engine:install_service", "write the systemd user unit and say what linger does")
    install.add_argument("--print", dest="print_only", action="store_true", help="print the unit and write nothing")

    doctor = _command(
        nouns, common, "doctor", "doctor:doctor", "check this box and say how to repair what is wrong",
        ("llmops-tui doctor", "exit code 1 when a check fails"),
        ("llmops-tui doctor --rebuild", "make the database again from the run directories"),
    )  # fmt: skip
    doctor.add_argument("--rebuild", action="store_true", help="make the database again from the run directories (engine stopped)")

    demo = _command(
        nouns, common, "demo", "demo:demo", "fine-tune SmolLM2-135M on financial questions and answers, under live view",
        ("llmops-tui demo", "opens the console on the running job"),
        ("llmops-tui demo --no-tui --steps 8", "plain progress lines, a shorter run"),
    )  # fmt: skip
    demo.add_argument("--no-tui", action="store_true", help="print progress lines even on a terminal")
    demo.add_argument("--steps", type=positive, default=None, metavar="N", help="optimizer steps of the fine-tune (default: 24)")


def _add_reservations(gpus: Parser, common: Parser) -> None:
    """`gpus` alone shows them; these are its verbs."""
    verbs: Group = gpus.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=Parser)
    reserve = _command(
        verbs, common, "reserve", "people:reserve", "keep GPUs for your own runs for some time; what runs on them goes on",
        ('llmops-tui gpus reserve 0,1 --for 2h --note "demo at noon"', "prints the reservation's id"),
    )  # fmt: skip
    reserve.add_argument("gpus", type=gpu_names, metavar="GPUS", help="indexes or UUIDs, separated by commas")
    reserve.add_argument("--for", dest="seconds", type=span, required=True, metavar="TIME", help="how long: 30m, 2h, 1d12h; at most 30d")
    reserve.add_argument("--note", default="", metavar="TEXT", help="why, for the others")
    release = _command(verbs, common, "release", "people:release", "end a reservation before its time")
    release.add_argument("id", metavar="ID", help="as `gpus reservations` shows it")
    _command(verbs, common, "reservations", "people:list_reservations", "list the reservations in force")


def _add_run(nouns: Group, common: Parser) -> None:
    run = _command(
        nouns, common, "run", "run:run", "submit a run; prints its id",
        ("llmops-tui run train -f sft.yaml --set optim.learning_rate=1e-4 --follow", ""),
        ("llmops-tui run train --set model=./smollm2 --set dataset.path=rows.jsonl", ""),
        ("llmops-tui run evaluate --set model=fiqa@v1 --set dataset.path=fiqa", ""),
        ("llmops-tui run merge --set adapter=fiqa@v1 --follow", "one model out of adapter and base, verified"),
        ("llmops-tui run command --name sweep -- python sweep.py --lr 3e-4", "any program, supervised alike"),
        ("cat spec.json | llmops-tui run train -f - --dry-run", "check everything, start nothing"),
        ("llmops-tui run train --fields", "what can be set, with types, bounds and defaults"),
    )  # fmt: skip
    run.usage = "llmops-tui run KIND [-f FILE] [--set KEY=VALUE …] [--name NAME] [--follow] [--dry-run] [--fields] [-- PROGRAM ARG …]"
    run.add_argument("kind", metavar="KIND", choices=JOB_KINDS, help=f"{', '.join(JOB_KINDS)}; the keys of each are in docs/specs.md")
    run.add_argument("-f", "--file", metavar="FILE", help="the spec, YAML or JSON; - reads it from stdin")
    run.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a key of the spec, over the file's")
    run.add_argument("--name", metavar="NAME", help="short name in the run id")
    run.add_argument("--follow", action="store_true", help="watch until it ends; the exit code is the run's")
    run.add_argument("--dry-run", action="store_true", help="check spec, data, model and disk; start nothing")
    run.add_argument("--fields", action="store_true", help="list what can be set for KIND; start nothing")


def _add_runs(nouns: Group, common: Parser) -> None:
    runs = _noun(nouns, common, "runs", "list, watch and steer runs")
    listing = _command(
        runs, common, "list", "runs:list_runs", "list runs, newest first",
        ("llmops-tui runs list --state running --state queued", ""),
        ("llmops-tui runs list --filter 'tag:fiqa cfg.learning_rate>=1e-4'", "the language is in docs/runs.md"),
        ("llmops-tui runs list --sort metric.eval/loss --column cfg.learning_rate", "the best first"),
        ("llmops-tui runs list --filter=-state:failed", "with = where it begins with a minus"),
    )  # fmt: skip
    listing.add_argument("--state", action="append", choices=STATES, metavar="STATE", help=f"only these: {', '.join(STATES)}")
    listing.add_argument("--kind", choices=JOB_KINDS, metavar="KIND", help="only this job kind")
    listing.add_argument("--filter", default="", metavar="FILTER", help="only runs that match: state:failed age<2d metric.train/loss<1.5")
    listing.add_argument(
        "--sort", default="", metavar="KEY",
        help="submitted (default), started, ended, duration, id, state, kind, name, owner, priority, attempt, cfg.… or metric.…",
    )  # fmt: skip
    listing.add_argument("--reverse", action="store_true", help="the other way round than the key is usually read")
    listing.add_argument(
        "--column", action="append", default=[], metavar="COLUMN", help="show a setting (cfg.…) or a metric (metric.…) too"
    )
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="at most this many (default: 50)")
    listing.add_argument("--offset", type=natural, default=0, metavar="N", help="skip this many (default: 0)")

    estimate = _command(
        runs, common, "estimate", "runs_estimate:estimate", "predict memory, time, energy, cost and disk of a train spec; start nothing",
        ("llmops-tui runs estimate -f spec.yaml", "each figure with its band, and what it is based on"),
        ("llmops-tui runs estimate -f spec.yaml --set micro_batch=8 --json", ""),
    )  # fmt: skip
    estimate.add_argument("-f", "--file", metavar="FILE", help="the spec, YAML or JSON; - reads it from stdin")
    estimate.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a key of the spec, over the file's"
    )

    _with_run(_command(runs, common, "show", "runs:show", "show a run: state and why, spec, attempts, checkpoints, metrics"))

    logs = _with_run(
        _command(
            runs, common, "logs", "runs_data:logs", "print what a run wrote to stdout and stderr, or search it",
            ("llmops-tui runs logs train-fiqa-0001 --tail 20 -f", ""),
            ("llmops-tui runs logs train-fiqa-0001 --grep error -i -C 3", "lines with any error, and three around each"),
        )
    )  # fmt: skip
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    logs.add_argument("--tail", type=natural, default=None, metavar="LINES", help="only the last lines")
    logs.add_argument("--grep", metavar="PATTERN", help="only the lines with this text; colours and other escape sequences do not count")
    logs.add_argument("-i", "--ignore-case", action="store_true", help="capitals do not matter")
    logs.add_argument("--regex", action="store_true", help="PATTERN is a regular expression (Python's)")
    logs.add_argument("-C", "--context", type=natural, default=0, metavar="N", help="also N lines before and after each (at most 50)")

    metrics = _with_run(
        _command(
            runs, common, "metrics", "runs_data:metrics", "show a run's metrics: the newest values, or curves of the named ones",
            ("llmops-tui runs metrics train-fiqa-0001", "last value of each"),
            ("llmops-tui runs metrics train-fiqa-0001 train/loss --points 20", "a curve"),
        )
    )  # fmt: skip
    metrics.add_argument("metric", nargs="*", metavar="METRIC", help="for example train/loss")
    metrics.add_argument("--points", type=positive, default=40, metavar="N", help="buckets of a curve at most (default: 40)")
    metrics.add_argument("--from", dest="step_first", type=natural, default=None, metavar="STEP", help="first step")
    metrics.add_argument("--to", dest="step_last", type=natural, default=None, metavar="STEP", help="last step")

    _with_run(
        _command(
            runs, common, "watch", "runs:watch", "follow a run until it ends; the exit code is the run's",
            ("llmops-tui runs watch train-fiqa-0001 --json", "every event as a JSON line"),
        )
    )  # fmt: skip
    stop = _command(runs, common, "stop", "runs:stop", "stop runs; a training run writes a checkpoint first")
    stop.add_argument("run", nargs="+", metavar="RUN", help="run ids")
    stop.add_argument("--now", action="store_true", help="no checkpoint: TERM, grace, KILL")
    _with_run(_command(runs, common, "retry", "runs:retry", "run an ended run again, from its newest checkpoint"))
    add_control(runs, common)
    ask = _with_run(
        _command(
            runs, common, "ask", "people:ask", "leave a note in the inbox of a run's owner",
            ('llmops-tui runs ask train-fiqa-0001 "may I have GPU 0 at noon?"', ""),
        )
    )  # fmt: skip
    ask.add_argument("message", metavar="MESSAGE", help="what you ask for")
    priority = _with_run(_command(runs, common, "priority", "runs:priority", "change a waiting run's priority; higher starts first"))
    priority.add_argument("priority", type=int, metavar="N", help="-100 to 100")
    move = _with_run(_command(runs, common, "move", "runs:move", "move a waiting run in the queue"))
    move.add_argument("position", type=positive, metavar="POSITION", help="1 is next")
    remove = _command(runs, common, "rm", "runs:remove", "delete ended runs with their directories, logs and checkpoints")
    remove.add_argument("run", nargs="+", metavar="RUN", help="run ids")
    remove.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_comparing(runs, common)
    export = _with_run(
        _command(
            runs, common, "export", "runs_export:export", "write every point of a run's metrics, or the whole run for another tool",
            ("llmops-tui runs export train-fiqa-0001 -o points.csv", "CSV, or JSON lines with --format json"),
            ("llmops-tui runs export train-fiqa-0001 --to tensorboard logs/fiqa", "a new directory; mlflow and csv alike"),
            ("llmops-tui --host box runs export train-fiqa-0001 --to csv -", "another box's run, as a tar: add | tar xz"),
        )
    )  # fmt: skip
    told = "the whole run for tensorboard, mlflow or csv, into a new directory; - is a tar on stdout"
    export.add_argument("--to", nargs=2, metavar=("TOOL", "DIR"), help=told)
    bring = _command(
        runs, common, "import", "runs_import:import_run", "bring in an old run by its own logs: TensorBoard, wandb, trainer_state.json",
        ("llmops-tui runs import outputs/checkpoint-500", "prints the id of the run that now holds it"),
    )  # fmt: skip
    bring.add_argument("path", metavar="PATH", help="the run's directory, or its log")
    bring.add_argument("--name", default="", metavar="NAME", help="short name in the run id; the directory's if left out")
    export.add_argument("--format", choices=("csv", "json"), default="csv", metavar="FORMAT", help="csv (default) or json")
    export.add_argument("--metric", action="append", metavar="METRIC", help="only these")
    export.add_argument("-o", "--output", metavar="FILE", help="write here instead of stdout")


def _add_comparing(runs: Group, common: Parser) -> None:
    for verb, summary, count, metavar in (
        ("compare", "compare 2 to 16 runs: settings, data, environment, metrics", "+", "RUN"),
        ("diff", "show what two runs differ in", 2, "RUN"),
    ):
        compare = _command(
            runs, common, verb, "runs_compare:compare", summary,
            (f"llmops-tui runs {verb} train-fiqa-0001 train-fiqa-0002", ""),
            (f"llmops-tui runs {verb} train-fiqa-0001 train-fiqa-0002 --format markdown", "for a pull request"),
        )  # fmt: skip
        compare.add_argument("run", nargs=count, metavar=metavar, help="run ids")
        compare.add_argument(
            "--group-by", default="", metavar="KEY",
            help="put runs of the same value of this setting together: mean and 95 %% interval of each metric over them (seeds)",
        )  # fmt: skip
        compare.add_argument("--all", action="store_true", help="also what they agree in, and the least and greatest value of each metric")
        compare.add_argument(
            "--format", choices=("table", "markdown", "csv", "json"), default="table", metavar="FORMAT",
            help="table (default), markdown, csv or json; the last two have everything",
        )  # fmt: skip
    tag = _with_run(
        _command(
            runs, common, "tag", "runs_annotate:tag", "add tags to a run and take them away; without any, print them",
            ("llmops-tui runs tag train-fiqa-0001 +good -candidate", ""),
        )
    )  # fmt: skip
    tag.minus_words = True
    tag.add_argument("change", nargs="*", metavar="CHANGE", help="+tag (or tag) adds it, -tag takes it away")
    note = _with_run(
        _command(
            runs, common, "note", "runs_annotate:note", "write a note to a run; without a text, print it",
            ("llmops-tui runs note train-fiqa-0001 'warm-up was too short'", ""),
        )
    )  # fmt: skip
    note.add_argument("text", nargs="?", default=None, metavar="TEXT", help="replaces the note; '' removes it, - reads stdin")
    baseline = _command(
        runs, common, "baseline", "runs_annotate:baseline", "pin runs as baselines to compare with",
        ("llmops-tui runs baseline train-fiqa-0001", "found by --filter baseline:yes"),
    )  # fmt: skip
    baseline.add_argument("run", nargs="+", metavar="RUN", help="run ids")
    baseline.add_argument("--off", action="store_true", help="unpin them")


def _add_catalog(nouns: Group, common: Parser) -> None:
    models = _noun(nouns, common, "models", "registered models, and those found on this disk")
    _command(models, common, "list", "models:list_models", "list models")
    _with_reference(_command(models, common, "show", "models:show", "show a model version"))
    _with_reference(
        _command(
            models, common, "lineage", "models_lineage:lineage", "show what a model was made from: parents, rows, licences, templates",
            ("llmops-tui models lineage fiqa-merged@v1", ""),
        )
    )  # fmt: skip
    model = _command(models, common, "import", "models:import_model", "register a model directory where it lies")
    model.add_argument("path", metavar="PATH", help="a directory with config.json and weights, or a GGUF file")
    model.add_argument("--name", metavar="NAME", help="registered name (default: the directory's)")
    model.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights, for example Apache-2.0")

    datasets = _noun(nouns, common, "datasets", "registered datasets")
    _command(datasets, common, "list", "datasets:list_datasets", "list datasets")
    _with_reference(_command(datasets, common, "show", "datasets:show", "show a dataset version"))
    dataset = _command(
        datasets, common, "import", "datasets:import_dataset", "check every row of a file and register it",
        ("llmops-tui datasets import rows.jsonl --name support", ""),
    )  # fmt: skip
    dataset.add_argument("path", metavar="PATH", help="JSONL, JSON, CSV, Parquet or Arrow, or a directory of such files")
    dataset.add_argument("--name", metavar="NAME", help="registered name (default: the file's)")
    dataset.add_argument("--format", default="auto", metavar="FORMAT", help="how a row is read (default: auto)")
    dataset.add_argument("--copy", action="store_true", help="keep a copy in the state directory")
    dataset.add_argument("--licence", default="", metavar="TEXT", help="licence of the data")
    shown = _with_reference(
        _command(
            datasets, common, "preview", "datasets:preview", "show rows as a model meets them, with what it learns marked",
            ("llmops-tui datasets preview rows.jsonl --model ./SmolLM2-135M-Instruct", ""),
            ("llmops-tui datasets preview pairs.jsonl --model ./SmolLM2-135M-Instruct --rows 1", "both sides of a pair"),
        )
    )  # fmt: skip
    shown.add_argument("--model", required=True, metavar="MODEL", help="whose template and tokenizer: a directory or a registered name")
    shown.add_argument("--rows", type=positive, default=3, metavar="N", help="the first N rows, at most 50 (default: 3)")
    shown.add_argument("--format", default="auto", metavar="FORMAT", help="how a row is read (default: auto)")
    shown.add_argument("--method", default="sft", metavar="METHOD", help="what it would be trained with (default: sft)")
    shown.add_argument("--max-length", type=positive, default=1024, metavar="N", help="tokens kept of a row (default: 1024)")

    sql = _command(
        nouns, common, "sql", "sql:sql", "ask the database; read only",
        ('llmops-tui sql "SELECT metric, count(*) FROM metrics_long GROUP BY metric"', ""),
        ("llmops-tui sql - < query.sql", ""),
    )  # fmt: skip
    sql.add_argument("query", metavar="QUERY", help="one statement; - reads it from stdin")
    sql.add_argument("--limit", type=positive, default=1000, metavar="N", help="rows at most (default: 1000)")


def _add_shell_commands(nouns: Group, common: Parser) -> None:
    completions = _command(
        nouns, common, "completions", "completions:completions", "print the completion script of a shell",
        ('eval "$(llmops-tui completions bash)"', "in ~/.bashrc"),
    )  # fmt: skip
    completions.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
    _command(nouns, common, "man", "man:man", "print the man page", ("llmops-tui man > ~/.local/share/man/man1/llmops-tui.1", ""))


def gpu_names(text: str) -> list[int | str]:
    """An argument that names GPUs: indexes or UUIDs, separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} names no GPUs; write 0,1")
    return [int(name) if name.isdecimal() else name for name in names]
