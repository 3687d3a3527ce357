"""What the model said, prompt by prompt and step by step: how one answer changed while the model was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from llmops_tui.keys import bindings
from llmops_tui.screens.widgets.editing import one_line
from llmops_tui.screens.widgets.lines import Run, fit
from llmops_tui.screens.widgets.scrolling import ScrollingLines


@dataclass(frozen=True)
class Sample:
    """One answer to one prompt at a step."""

    step: int
    prompt: str
    text: str


def sample_lines(samples: Sequence[Sample], width: int) -> list[list[Run]]:
    """The answers to one prompt, the newest first; what is like the answer before is said, not repeated."""
    lines: list[list[Run]] = []
    ordered = sorted(samples, key=lambda sample: sample.step)
    for number in range(len(ordered) - 1, -1, -1):
        sample = ordered[number]
        same = number > 0 and ordered[number - 1].text == sample.text
        lines.append([(f" step {sample.step}", "title"), ("  as before" if same else "", "muted")])
        if not same:
            for paragraph in sample.text.splitlines() or [""]:
                for text in wrap(one_line(paragraph), max(8, width - 4)) or [""]:
                    lines.append([(f"   {text}", "text")])
    return lines


class SamplePane(ScrollingLines, can_focus=True):
    """One prompt at a time."""

    DEFAULT_CSS = "SamplePane { height: 1fr; }"
    BINDINGS = bindings("samples")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples: dict[str, list[Sample]] = {}
        self._prompt = 0
        self._top = 0
        self._empty = "asking the engine…"

    def show(self, samples: Sequence[Sample], empty: str) -> None:
        """All samples of the run; the prompt looked at stays."""
        groups: dict[str, list[Sample]] = {}
        for sample in samples:
            groups.setdefault(sample.prompt, []).append(sample)
        if (groups, empty) != (self._samples, self._empty):
            self._samples, self._empty = groups, empty
            self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll the answers."""
        self._top += lines
        self.draw()

    def action_page(self, pages: int) -> None:
        """Scroll by what is visible."""
        self.action_scroll(pages * max(1, self.size.height - 3))

    def action_end(self, last: bool) -> None:
        """The newest answer, or the oldest."""
        self._top = 1 << 30 if last else 0
        self.draw()

    def action_prompt(self, by: int) -> None:
        """Another prompt."""
        if self._samples:
            self._prompt = (self._prompt + by) % len(self._samples)
            self._top = 0
            self.draw()

    def wheel(self, rows: int) -> None:
        """The wheel scrolls."""
        self.action_scroll(rows)

    def draw(self) -> None:
        """The prompt, and as much of its answers as fits."""
        width, height = self.size
        if not width or not height:
            return
        if not self._samples:
            self.show_lines([[("", "text")], *([(f" {text}", "muted")] for text in wrap(self._empty, max(8, width - 2)))])
            return
        self._prompt = min(self._prompt, len(self._samples) - 1)
        prompt = list(self._samples)[self._prompt]
        where = f" {self._prompt + 1} of {len(self._samples)} "
        head: list[list[Run]] = [[(where, "muted"), (fit(one_line(prompt), max(1, width - len(where) - 1)), "bright")]]
        if height > 8:
            rest = wrap(one_line(prompt), max(8, width - 2))
            if len(rest) > 1:
                head = [[(where, "muted")], *([(f" {text}", "bright")] for text in rest[: height // 3])]
        body = sample_lines(self._samples[prompt], width)
        room = max(1, height - len(head))
        self._top = max(0, min(self._top, len(body) - room))
        self.show_lines([*head, *body[self._top : self._top + room]])
