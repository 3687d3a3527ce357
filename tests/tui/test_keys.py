"""One key table: the bindings, the help and the hints all come from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmops_tui.app import LlmopsApp
from llmops_tui.keys import KEYS, PLACES, bindings, hints, name_of
from llmops_tui.screens.chat import ChatScreen
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.command_line import CommandLine
from llmops_tui.screens.compare import CompareScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.gpus import GpusScreen
from llmops_tui.screens.help import HelpScreen, help_lines
from llmops_tui.screens.hosts import HostsScreen
from llmops_tui.screens.inbox import InboxScreen
from llmops_tui.screens.jump import JumpLabels
from llmops_tui.screens.linked_page import LinkedScreen
from llmops_tui.screens.new_run import NewRunScreen
from llmops_tui.screens.pulse import PulseScreen
from llmops_tui.screens.queue import QueueScreen
from llmops_tui.screens.rendered import RenderedPane, RenderedScreen
from llmops_tui.screens.request import RequestScreen
from llmops_tui.screens.requests import RequestsScreen
from llmops_tui.screens.run import RunScreen
from llmops_tui.screens.runs import RunsScreen
from llmops_tui.screens.serve import ServeScreen
from llmops_tui.screens.sql import SqlScreen
from llmops_tui.screens.steer import SteerScreen
from llmops_tui.screens.stop import StopScreen
from llmops_tui.screens.sweep import SweepScreen
from llmops_tui.screens.travel_bar import TravelBar
from llmops_tui.screens.widgets.chart import BrailleChart
from llmops_tui.screens.widgets.chat_pane import ChatPane
from llmops_tui.screens.widgets.edit_line import EditLine
from llmops_tui.screens.widgets.form import FieldLine, FormView
from llmops_tui.screens.widgets.log_pane import LogPane
from llmops_tui.screens.widgets.prompt_area import PromptArea
from llmops_tui.screens.widgets.sample_pane import SamplePane
from llmops_tui.screens.widgets.table import RowTable

OWNERS = {
    "everywhere": LlmopsApp, "pulse": PulseScreen, "run": RunScreen, "table": RowTable, "chart": BrailleChart,
    "log": LogPane, "command": CommandLine, "travel": TravelBar, "choose": ChooseScreen, "jump": JumpLabels,
    "sql": SqlScreen, "queue": QueueScreen, "gpus": GpusScreen,
    "inbox": InboxScreen, "pages": PulseScreen,
    "hosts": HostsScreen, "stop": StopScreen, "steer": SteerScreen, "help": HelpScreen,
    "runs": RunsScreen, "run_actions": RunsScreen, "compare": CompareScreen, "sweep": SweepScreen, "confirm": ConfirmScreen,
    "form": NewRunScreen, "fields": FormView, "field": FieldLine,
    "serve": ServeScreen, "requests": RequestsScreen, "request": RequestScreen,
    "chat": ChatScreen, "chat_pane": ChatPane, "prompt": PromptArea,
    "edit": EditLine, "samples": SamplePane, "linked": LinkedScreen, "rendered": RenderedPane, "rendered_page": RenderedScreen,
}  # fmt: skip


def test_the_help_lists_every_binding() -> None:
    text = "\n".join("".join(part for part, _ in line) for line in help_lines())
    for key in KEYS:
        assert key.help in text
        for name in key.keys:
            assert name_of(name) in text


@pytest.mark.parametrize("place", PLACES)
def test_every_key_has_an_action_in_the_place_that_offers_it(place: str) -> None:
    for key in KEYS:
        if key.where == place:
            owner = LlmopsApp if key.action.startswith("app.") else OWNERS[place]
            name = key.action.removeprefix("app.").split("(")[0]
            assert callable(getattr(owner, f"action_{name}", None)), key.id


@pytest.mark.parametrize("place", PLACES)
def test_no_key_means_two_things_in_one_place(place: str) -> None:
    names = [name for key in KEYS if key.where == place for name in key.keys]
    assert len(names) == len(set(names))
    assert {binding.id for binding in bindings(place) if not isinstance(binding, tuple)} == {k.id for k in KEYS if k.where == place}


def test_the_hints_of_each_page_fit_eighty_columns() -> None:
    for place in ("pulse", "run"):
        assert sum(len(key) + len(word) + 3 for key, word in hints(place, "everywhere")) <= 80


def test_the_viewer_loads_nothing_heavy() -> None:
    pages = "llmops_tui.app, llmops_tui.screens.run, llmops_tui.screens.new_run, llmops_tui.screens.help, llmops_tui.screens.stop"
    code = f"import sys, {pages}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"yaml", "torch", "transformers", "duckdb", "pyarrow", "numpy", "pydantic", "fastapi", "http.client"} & set(loaded)
