"""`run KIND`: submit a wish, print the run's id; or say what can be wished for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import MISSING, one_line, print_json, print_json_line, print_table, say, size
from llmops_tui.commands.spec_file import build_spec
from llmops_tui.errors import UsageError
from llmops_tui.specs.field_words import takes, words_of

if TYPE_CHECKING:
    from llmops_tui.specs.answers import SpecForm


def run(args: argparse.Namespace) -> int:
    """Submit, or only check with `--dry-run`; with `--follow` the exit code is the run's."""
    if args.fields:
        form = connect(args).spec_form(args.kind)
        if args.json:
            print_json(form)
        else:
            _print_fields(form)
        return 0
    if args.dry_run and args.follow:
        raise UsageError("--dry-run starts nothing that --follow could watch", "leave one of them out")
    spec = build_spec(args.kind, args.file, args.settings, args.name, args.argv)
    if args.kind == "command" and "argv" not in spec:
        raise UsageError("no program given", "use `llmops-tui run command -- PROGRAM ARG …`")
    client = connect(args)
    submission = client.submit(spec, dry_run=args.dry_run)
    for warning in submission["warnings"]:
        say(f"llmops-tui: warning: {one_line(warning)}")
    if args.dry_run:
        if args.json:
            print_json(submission)
            return 0
        forecast = submission["prepared"].get("disk_bytes")
        print(f"a valid {args.kind} run" + (f"; it will write about {size(forecast)}" if forecast else "") + "; nothing was started")
        return 0
    run_id = submission["id"]
    if not args.follow:
        if args.json:
            print_json(submission)
        else:
            print(run_id)
        return 0
    from llmops_tui.commands.follow import follow, follow_json

    if args.json:
        print_json_line({"type": "submitted", "run": run_id})
        return follow_json(client, run_id)
    print(run_id, flush=True)
    return follow(client, run_id)


def _print_fields(form: SpecForm) -> None:
    rows = []
    for field in form["fields"]:
        default = "required" if field["required"] else words_of(field, field["default"]) or MISSING
        rows.append((field["key"], takes(field), default, field["description"]))
    print_table(("key", "takes", "default", "what it does"), rows)
