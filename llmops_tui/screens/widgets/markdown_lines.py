"""Markdown as coloured lines of a given width: what a model writes, readable while it is still being written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells

from llmops_tui.screens.widgets.lines import Run, fit
from llmops_tui.specs.chat_answer import shown_text

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_NARROWEST = 8
_ROLES = {"code_inline": "accent"}


class MarkdownText:
    """A text that grows: blocks that are over are laid out once, only the last one again with each piece."""

    def __init__(self) -> None:
        self._width = 0
        self._done = ""
        self._lines: list[list[Run]] = []
        self._last: tuple[str, list[list[Run]]] = ("", [])

    def lines(self, text: str, width: int) -> list[list[Run]]:
        """All lines of the text as it is now, at most `width` cells each."""
        if width == self._width and text == self._last[0]:
            return self._last[1]
        given, text = text, shown_text(text)
        if width != self._width or not text.startswith(self._done):
            self._width, self._done, self._lines = width, "", []
        rest = text[len(self._done) :]
        tokens = _parser().parse(rest)
        begins = [token.map[0] for token in tokens if token.level == 0 and token.map is not None and token.nesting >= 0]
        if len(begins) > 1:
            source = rest.split("\n")
            settled = "\n".join(source[: begins[-1]]) + "\n"
            self._lines = _joined(self._lines, _blocks(_parser().parse(settled), width))
            self._done += settled
            tokens = _parser().parse(rest[len(settled) :])
        self._last = (given, _joined(self._lines, _blocks(tokens, width)))
        return self._last[1]


def markdown_lines(text: str, width: int) -> list[list[Run]]:
    """A whole text."""
    return MarkdownText().lines(text, width)


def wrapped(runs: Sequence[Run], width: int) -> list[list[Run]]:
    """Runs over as many lines as they take, broken between words; their own line ends stay, a word too long is cut."""
    lines: list[list[Run]] = [[]]
    room = width
    for text, role in runs:
        for at, part in enumerate(text.split("\n")):
            if at:
                lines.append([])
                room = width
            for word in _words(part):
                if cell_len(word.rstrip(" ")) > room and room < width:
                    lines.append([])
                    room = width
                    word = word.lstrip(" ")
                for piece in [word] if cell_len(word.rstrip(" ")) <= room else chop_cells(word, width):
                    if cell_len(piece.rstrip(" ")) > room:
                        lines.append([])
                        room = width
                    if piece:
                        lines[-1].append((piece, role))
                        room -= cell_len(piece)
    return [_merged(line) for line in lines]


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # only now: no page but this one needs it

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _blocks(tokens: Sequence[Token], width: int) -> list[list[Run]]:
    """The blocks at one level, an empty line between them."""
    lines: list[list[Run]] = []
    at = 0
    while at < len(tokens):
        end = _end(tokens, at)
        lines = _joined(lines, _block(tokens[at : end + 1], max(_NARROWEST, width)))
        at = end + 1
    return lines


def _block(tokens: Sequence[Token], width: int) -> list[list[Run]]:
    first, inner = tokens[0], tokens[1:-1]
    kind = first.type
    if kind in ("fence", "code_block"):
        return _code(first, width)
    if kind == "hr":
        return [[("─" * width, "faint")]]
    if kind == "heading_open":
        return wrapped(_inline(inner, "title"), width)
    if kind == "blockquote_open":
        return [[("│ ", "faint"), *line] for line in _blocks(inner, width - 2)]
    if kind in ("bullet_list_open", "ordered_list_open"):
        return _items(first, inner, width)
    if kind == "table_open":
        return _table(inner, width)
    if kind == "html_block":
        return wrapped([(first.content.rstrip("\n"), "text")], width)
    return wrapped(_inline(inner, "text"), width)


def _code(token: Token, width: int) -> list[list[Run]]:
    lines: list[list[Run]] = [[("│ ", "faint"), (token.info.strip(), "muted")]] if token.info.strip() else []
    for text in token.content.rstrip("\n").split("\n"):
        pieces = chop_cells(text.expandtabs(4), max(1, width - 2)) or [""]
        lines += [[("│ ", "faint"), (piece, "accent")] for piece in pieces]
    return lines


def _items(opening: Token, tokens: Sequence[Token], width: int) -> list[list[Run]]:
    number = int(opening.attrGet("start") or 1) if opening.type == "ordered_list_open" else None
    lines: list[list[Run]] = []
    at = 0
    while at < len(tokens):
        end = _end(tokens, at)
        mark = "· " if number is None else f"{number}. "
        inside = _tight(tokens[at + 1 : end], width - len(mark)) or [[]]
        lines += [[(mark if row == 0 else " " * len(mark), "muted"), *line] for row, line in enumerate(inside)]
        number = None if number is None else number + 1
        at = end + 1
    return lines


def _tight(tokens: Sequence[Token], width: int) -> list[list[Run]]:
    """The blocks of a list's item, close together."""
    lines: list[list[Run]] = []
    at = 0
    while at < len(tokens):
        end = _end(tokens, at)
        lines += _block(tokens[at : end + 1], max(_NARROWEST, width))
        at = end + 1
    return lines


def _table(tokens: Sequence[Token], width: int) -> list[list[Run]]:
    rows: list[list[str]] = []
    heads = 0
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "thead_close":
            heads = len(rows)
        elif token.type == "inline":
            rows[-1].append("".join(text for text, _ in _inline([token], "text")).replace("\n", " "))
    columns = max((len(row) for row in rows), default=0)
    wanted = [max(cell_len(row[at]) if at < len(row) else 0 for row in rows) for at in range(columns)]
    room = max(columns, width - 2 * (columns - 1))
    while sum(wanted) > room:
        widest = wanted.index(max(wanted))
        wanted[widest] -= 1
    lines: list[list[Run]] = []
    for number, row in enumerate(rows):
        cells = [fit(row[at] if at < len(row) else "", wanted[at]) for at in range(columns)]
        lines.append([("  ".join(cells).rstrip(), "bright" if number < heads else "text")])
        if number + 1 == heads:
            lines.append([("─" * min(width, sum(wanted) + 2 * (columns - 1)), "faint")])
    return lines


def _inline(tokens: Sequence[Token], role: str) -> list[Run]:
    """The runs of inline text; strong is bright, emphasis in the colour of keys, code in the accent's, a link's address after it."""
    runs: list[Run] = []
    roles = [role]
    links: list[str] = []
    for token in [child for outer in tokens for child in outer.children or ()]:
        kind = token.type
        if kind in ("strong_open", "em_open", "s_open"):
            roles.append({"strong_open": "bright", "em_open": "key", "s_open": "muted"}[kind])
        elif kind in ("strong_close", "em_close", "s_close"):
            roles.pop()
        elif kind == "link_open":
            links.append(str(token.attrGet("href") or ""))
        elif kind == "link_close":
            address = links.pop()
            if address and (not runs or runs[-1][0] != address):
                runs.append((f" ({address})", "muted"))
        elif kind in ("softbreak", "hardbreak"):
            runs.append(("\n", roles[-1]))
        elif kind == "image":
            runs.append((f"[image: {token.content}]", "muted"))
        else:
            runs.append((token.content, _ROLES.get(kind, roles[-1])))
    return runs


def _end(tokens: Sequence[Token], at: int) -> int:
    """Where the block that begins at `at` ends."""
    depth = 0
    for index in range(at, len(tokens)):
        depth += tokens[index].nesting
        if depth <= 0:
            return index
    return len(tokens) - 1


def _joined(above: list[list[Run]], below: list[list[Run]]) -> list[list[Run]]:
    return [*above, [], *below] if above and below else [*above, *below]


def _words(text: str) -> list[str]:
    """The words with the spaces behind them; spaces at the beginning stay with the first."""
    words: list[str] = []
    begin = 0
    for at in range(1, len(text)):
        if text[at - 1] == " " and text[at] != " " and text[begin:at].strip():
            words.append(text[begin:at])
            begin = at
    return [*words, text[begin:]] if text else []


def _merged(line: list[Run]) -> list[Run]:
    merged: list[Run] = []
    for text, role in line:
        if merged and merged[-1][1] == role:
            merged[-1] = (merged[-1][0] + text, role)
        else:
            merged.append((text, role))
    return merged
