"""The rows of a wish as the model will meet them: rendered by its template, with what it learns marked, before anything is launched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from textual.app import ComposeResult

from llmops_tui.errors import LlmopsError
from llmops_tui.keys import bindings
from llmops_tui.screens.board import Board
from llmops_tui.screens.calls import call
from llmops_tui.screens.widgets.focusing import take_keys
from llmops_tui.screens.widgets.lines import LineWidget, Run, spaced
from llmops_tui.screens.widgets.scrolling import ScrollingLines
from llmops_tui.specs.preview_text import cut_words, head_line, marked, text_line

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Preview

_ROWS = 12


def rendered_lines(found: Preview, width: int) -> tuple[list[list[Run]], list[int]]:
    """The page's lines, and at which of them each row begins. What is learnt is coloured, and bracketed for those who see no colour."""
    lines: list[list[Run]] = []
    begins: list[int] = []
    for row in found["rows"]:
        begins.append(len(lines))
        if row["problem"]:
            lines += [[(f" row {row['row']}: {row['problem']}", "bad")], []]
        for text in row["texts"]:
            lines.append([(f" {text_line(row, text)}", "title")])
            pieces = [(words, "good" if learnt else "text") for words, learnt in marked(text)]
            lines += folded([*pieces, (cut_words(text), "warn")], width)
            lines.append([])
    return lines, begins


def folded(pieces: list[Run], width: int) -> list[list[Run]]:
    """Coloured text over as many lines as it takes, a cell from the left edge; its own line ends stay."""
    room = max(8, width - 2)
    lines: list[list[Run]] = [[]]
    used = 0
    for words, role in pieces:
        for number, paragraph in enumerate(words.split("\n")):
            if number:
                lines.append([])
                used = 0
            begin = 0
            for at, character in enumerate(paragraph):
                size = cell_len(character)
                if used + size > room:
                    lines[-1].append((paragraph[begin:at], role))
                    lines.append([])
                    begin, used = at, 0
                used += size
            lines[-1].append((paragraph[begin:], role))
    return [[(" ", "text"), *((text, role) for text, role in line if text)] for line in lines]


class RenderedPane(ScrollingLines, can_focus=True):
    """The rows, one below the other."""

    DEFAULT_CSS = "RenderedPane { height: 1fr; }"
    BINDINGS = bindings("rendered")

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: Preview | None = None
        self._words = "rendering the first rows…"
        self._top = 0

    def show(self, found: Preview | None, words: str = "") -> None:
        """A preview, or why there is none."""
        self._found, self._words, self._top = found, words, 0
        self.draw()

    def action_scroll(self, lines: int) -> None:
        """Some lines on or back."""
        self._top += lines
        self.draw()

    def action_page(self, pages: int) -> None:
        """By what is visible."""
        self.action_scroll(pages * max(1, self.size.height - 2))

    def action_end(self, last: bool) -> None:
        """The first row, or the end of the last."""
        self._top = 1 << 30 if last else 0
        self.draw()

    def action_row(self, by: int) -> None:
        """Another row at the top."""
        if self._found is None:
            return
        _, begins = rendered_lines(self._found, self.size.width)
        others = [at for at in begins if at > self._top] if by > 0 else [at for at in reversed(begins) if at < self._top]
        self._top = others[0] if others else self._top
        self.draw()

    def wheel(self, rows: int) -> None:
        """The wheel scrolls."""
        self.action_scroll(rows)

    def draw(self) -> None:
        """As much as fits."""
        width, height = self.size
        if not width or not height:
            return
        if self._found is None:
            self.show_lines([[], *folded([(self._words, "muted")], width)])
            return
        lines, _ = rendered_lines(self._found, width)
        self._top = max(0, min(self._top, len(lines) - height))
        self.show_lines(lines[self._top : self._top + height])


class RenderedScreen(Board):
    """Over the form: its spec as it is now."""

    BINDINGS = bindings("rendered_page")
    PLACES = ("rendered", "rendered_page")

    def __init__(self, spec: dict[str, Any], cwd: str) -> None:
        super().__init__()
        self._spec = spec
        self._cwd = cwd
        self._told = ""

    def compose(self) -> ComposeResult:
        """Header, how the rows were read, the rows, foot."""
        yield LineWidget(id="header")
        yield LineWidget(id="title")
        pane = RenderedPane(id="rendered")
        pane.add_class("panel")
        yield pane
        yield LineWidget(id="foot")

    def on_mount(self) -> None:
        """Ask the engine."""
        pane = self.query_one(RenderedPane)
        pane.border_title = "the first rows, as the model will meet them"
        take_keys(pane)
        self.run_worker(self._ask())

    def draw(self) -> None:
        """How the rows were read; the rows draw themselves."""
        title = self.query_one("#title", LineWidget)
        title.show_lines([spaced([(" rows ", "title"), (self._told, "text")], [], title.size.width)])

    def action_back(self) -> None:
        """To the form."""
        self.leave()

    async def _ask(self) -> None:
        found: Preview | None = None
        words = ""
        try:
            found = await call(self.client.preview, self._spec, cwd=self._cwd, rows=_ROWS)
        except LlmopsError as error:
            words = str(error)
        self._told = head_line(found) if found is not None else ""
        if self.ready:
            self.query_one(RenderedPane).show(found, words)
            self.redraw()
