"""The commands that steer a run while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from llmops_tui.commands.parser import Parser
from llmops_tui.commands.verbs import command, with_run
from llmops_tui.specs.control import SETTABLE
from llmops_tui.specs.quantize_types import QuantType

if TYPE_CHECKING:
    from llmops_tui.commands.verbs import Group


def add_control(runs: Group, common: Parser) -> None:
    """Into the verbs of `runs`."""
    pause = command(
        runs, common, "pause", "runs_control:pause", "pause runs: training saves a checkpoint and frees its memory; others keep theirs",
        ("llmops-tui runs pause train-fiqa-0001", "saves, ends, waits; `runs resume` goes on from there"),
        ("llmops-tui runs pause train-fiqa-0001 --hold", "keeps still with all its memory"),
    )  # fmt: skip
    pause.add_argument("run", nargs="+", metavar="RUN", help="run ids")
    mode = pause.add_mutually_exclusive_group()
    mode.add_argument("--free", dest="mode", action="store_const", const="free", help="save a checkpoint, end, free the memory")
    mode.add_argument("--hold", dest="mode", action="store_const", const="hold", help="keep the memory and the GPU; goes on at once")
    resume = command(runs, common, "resume", "runs_control:resume", "let paused runs go on")
    resume.add_argument("run", nargs="+", metavar="RUN", help="run ids")
    with_run(command(runs, common, "checkpoint", "runs_control:checkpoint", "write a checkpoint now"))
    with_run(command(runs, common, "evaluate", "runs_control:evaluate", "score the held-out rows now"))
    with_run(command(runs, common, "sample", "runs_control:sample", "let the model answer the sample prompts now"))
    settings = with_run(
        command(
            runs, common, "set", "runs_control:set_live", "change what a running job goes by; it counts from its next step on",
            ("llmops-tui runs set train-fiqa-0001 learning_rate_scale=0.5", "half the rate, over the whole schedule that is left"),
            ("llmops-tui runs set train-fiqa-0001 checkpoint_every=100 evaluate_every=none", ""),
        )
    )  # fmt: skip
    told = "; ".join(f"{name}: {what}" for name, what in SETTABLE.items())
    settings.add_argument("setting", nargs="+", metavar="KEY=VALUE", help=told)
    pick = with_run(
        command(
            runs, common, "pick", "quantized:pick", "register one of the forms that a quantize run made and measured",
            ("llmops-tui runs pick quantize-smollm2-0007 Q4_K_M", "the others' files stay: one of them can be picked too"),
            ("llmops-tui runs pick quantize-smollm2-0007 Q4_K_M --remove-others", "deletes the files of the forms that have no name"),
        )
    )  # fmt: skip
    pick.add_argument("type", choices=get_args(QuantType), metavar="TYPE", help=f"one of {', '.join(get_args(QuantType))}")
    pick.add_argument("--remove-others", action="store_true", help="delete the files of the forms that are not picked")
    reproduce = with_run(
        command(
            runs, common, "reproduce", "runs_control:reproduce", "start a run again from what was noted of it; tells what differs now",
            ("llmops-tui runs reproduce train-fiqa-0001 --dry-run", "only tell what differs: packages, driver, GPU, code, data, model"),
        )
    )  # fmt: skip
    reproduce.add_argument("--anyway", action="store_true", help="although its data or model changed")
    reproduce.add_argument("--dry-run", action="store_true", help="tell what differs; start nothing")
