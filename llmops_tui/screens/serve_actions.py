"""What can be done to what is served: split, roll back, swap, start, stop, scale, pin, unload. Each says first what it will be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.screens.calls import call
from llmops_tui.screens.choose import ChooseScreen
from llmops_tui.screens.confirm import ConfirmScreen
from llmops_tui.screens.serve_feed import ServeFeed
from llmops_tui.screens.serve_start import choose_model
from llmops_tui.screens.weight_split import Split, all_to, moved, read_weights, split_of, split_words, weights_text
from llmops_tui.screens.widgets.axes import duration_text

if TYPE_CHECKING:
    from llmops_tui.screens.widgets.lines import Line
    from llmops_tui.specs.answers_serving import EndpointSummary, ReplicaState, VersionState

_MOST_SERVERS = 64
_HOWS = (("swap", "takes all requests once it answers"), ("beside", "gets none yet: + gives it some"))


class ServeActions(ServeFeed):
    """`draft` is a split that was not applied yet, None without one."""

    draft: Split | None = None

    def __init__(self) -> None:
        super().__init__()
        self._wanted_endpoint = ""

    # The split.

    def action_share(self, by: int) -> None:
        """Five points of the requests more or fewer for the version under the cursor; nothing is changed until Enter."""
        if (endpoint := self._meant()) is None:
            return
        if len(endpoint["versions"]) < 2:
            self.llmops.tell(f"{endpoint['name']} has one version: V brings another", "warn")
            return
        before = self.draft or split_of(endpoint)
        previous = endpoint["previous"] or {}
        heirs = [*(name for name in previous if previous[name] > 0), *(v["name"] for v in endpoint["versions"] if v["state"] == "ready")]
        self.put_draft(moved(before, self.version_name, by, heirs))

    def action_all_to(self) -> None:
        """Every request to the version under the cursor; nothing is changed until Enter."""
        if (endpoint := self._meant()) is not None:
            self.put_draft(all_to(self.draft or split_of(endpoint), self.version_name))

    def action_weights(self) -> None:
        """The split as a line: `v3=95 v4=5`."""
        if (endpoint := self._meant()) is None:
            return
        names = [version["name"] for version in endpoint["versions"]]

        def answered(text: str) -> None:
            try:
                weights = read_weights(text, names)
            except UsageError as error:
                self.llmops.tell(str(error), "bad")
            else:
                self._route(endpoint["name"], weights)

        self.ask(f"weights of {endpoint['name']}:", weights_text(self.draft or split_of(endpoint)), "v3=95 v4=5", answered)

    def put_draft(self, split: Split) -> None:
        """Show another split; one that is what holds already is none."""
        endpoint = self.chosen
        holds = split_of(endpoint) if endpoint else {}
        self.draft = split if any(abs(share - holds.get(name, 0.0)) > 1e-6 for name, share in split.items()) else None
        self.perform(self.draw_frame, self.draw)

    def draft_words(self) -> str:
        """The split that Enter makes."""
        return f"new split {split_words(self.draft or {})}"

    def drop_draft(self) -> None:
        """The split stays as it is."""
        self.draft = None

    def apply_draft(self) -> None:
        """The new split holds for the next request."""
        endpoint, draft = self.chosen, self.draft
        if endpoint is not None and draft is not None:
            self._route(endpoint["name"], {name: share for name, share in draft.items() if share > 0})

    def action_apply(self) -> None:
        """Where no table has the keys."""
        if self.draft is not None:
            self.apply_draft()

    def action_drop(self) -> None:
        """Drop the new split; without one, back to the endpoints."""
        if self.draft is not None:
            self.drop_draft()
            self.llmops.tell("the split stays as it is", "muted")
            self.perform(self.draw)
        else:
            self.set_focus(self.query_one("#endpoints"))

    def _route(self, name: str, weights: Split) -> None:
        def said(summary: EndpointSummary) -> str:
            words = split_words(weights)
            waits = summary["pending"] is not None
            return f"{name} goes to {words} once their servers answer" if waits else f"{name}: {words}, from the next request on"

        self._wish(lambda: self.client.serving.route(name, weights), said, self.drop_draft)

    # Versions.

    def action_rollback(self) -> None:
        """Name what it goes back to, ask, and go back at once."""
        if (endpoint := self._meant()) is None:
            return
        name, back = endpoint["name"], endpoint["previous"]
        if back is None:
            self.llmops.tell(f"{name} has no version before to go back to", "warn")
            return
        by_name = {version["name"]: version for version in endpoint["versions"]}
        cold = [each for each in back if each in by_name and by_name[each]["state"] not in ("ready", "remote")]
        when = f"once {', '.join(cold)} answers: its servers have gone" if cold else "from the next request on: its servers are warm"
        lines: list[Line] = [
            [("  now    ", "muted"), (split_words({v["name"]: v["weight"] for v in endpoint["versions"]}), "text")],
            [("  back   ", "muted"), (split_words(back), "bright")],
            *([("  model  ", "muted"), (by_name[each]["model"] or by_name[each]["provider"], "text")] for each in back if each in by_name),
            [("  when   ", "muted"), (when, "warn" if cold else "good")],
        ]

        def said(summary: EndpointSummary) -> str:
            return f"{name} goes back to {split_words(back)}" + (" once it answers" if summary["pending"] else ": the next request does")

        self._confirm(
            f"roll {name} back?", lines, "roll back", "leave it", lambda: self._wish(lambda: self.client.serving.rollback(name), said)
        )

    def action_new_version(self) -> None:
        """Another model behind the same name: in the place of the one that answers, or beside it."""
        endpoint = self._meant()
        if endpoint is not None:
            name = endpoint["name"]
            self.run_worker(choose_model(self, f"a new version of {name}", lambda model: self._ask_how(name, model)))

    def action_scale(self) -> None:
        """Another number of servers of the version under the cursor."""
        endpoint, version = self._meant(), self.version()
        if endpoint is None or version is None:
            return
        name, of = endpoint["name"], version["name"]

        def answered(text: str) -> None:
            if not text.strip().isdigit() or int(text) > _MOST_SERVERS:
                self.llmops.tell(f"{text.strip()!r} is no number of servers: 0 to {_MOST_SERVERS}", "bad")
                return
            count = int(text)
            self._wish(lambda: self.client.serving.scale(name, count, of), lambda _: f"{name} {of} is to have {count} servers")

        self.ask(f"servers of {name} {of}:", str(version["replicas"]), "a number", answered)

    def action_remove_version(self) -> None:
        """Take away a version that gets no requests."""
        endpoint, version = self._meant(), self.version()
        if endpoint is None or version is None:
            return
        name, of = endpoint["name"], version["name"]
        if version["weight"] > 0:
            self.llmops.tell(f"{of} gets requests: give them to another version first (- and Enter)", "warn")
            return
        lines: list[Line] = [[(f"  {name} {of}", "bright"), (f"  {version['model'] or version['provider']}", "muted")]]
        lines.append([("  the model itself stays", "muted")])
        gone = lambda: self._wish(lambda: self.client.serving.remove_version(name, of), lambda _: f"{name} is without {of}")  # noqa: E731
        self._confirm(f"remove {of}?", lines, f"remove {of} and end its servers", "keep", gone)

    def _ask_how(self, name: str, model: str) -> None:
        here, serving = self.llmops.moves.current.directory(), self.client.serving

        def answered(how: str | None) -> None:
            if how == "swap":
                self._wish(
                    lambda: serving.swap(name, model, None, here), lambda _: f"{name}: {model} takes over once it answers; U goes back"
                )
            elif how == "beside":
                self._wish(
                    lambda: serving.add_version(name, {"model": model}, here),
                    lambda summary: f"{name} has {summary['versions'][-1]['name']}: + gives it requests",
                )

        self.app.push_screen(ChooseScreen(f"{model} behind {name}", _HOWS), answered)

    # Endpoints.

    def action_start(self) -> None:
        """An endpoint from a model."""
        self.llmops.serve()

    def action_stop_endpoint(self) -> None:
        """Name what ends, ask, and stop it."""
        if (endpoint := self._meant()) is None:
            return
        name, serving = endpoint["name"], [each for each in endpoint["replicas"] if each["state"] != "ended"]
        flying = sum(version["in_flight"] for version in endpoint["versions"])
        lines: list[Line] = [
            [(f"  {name}", "bright"), (f"  {split_words({v['name']: v['weight'] for v in endpoint['versions']})}", "muted")]
        ]
        lines += [[(f"  {replica['run']}", "text"), (f"  {replica['runtime']}", "muted")] for replica in serving]
        lines.append([(f"  {flying} requests under way are answered; no new ones are taken", "muted")])
        self._confirm(f"stop {name}?", lines, "stop it", "keep it", lambda: self._stop(name))

    def action_pin(self) -> None:
        """Never unload it, or as its spec says."""
        if (endpoint := self._meant()) is not None:
            name, pinned = endpoint["name"], not endpoint["pinned"]
            words = "is pinned: never unloaded, not for a training run either" if pinned else "is not pinned any more"
            self._wish(lambda: self.client.serving.pin(name, pinned), lambda _: f"{name} {words}")

    def action_sleep(self) -> None:
        """Unload it until the next request, or wake it now."""
        if (endpoint := self._meant()) is None:
            return
        name = endpoint["name"]
        if endpoint["state"] == "asleep":
            self._wish(lambda: self.client.serving.wake(name), lambda _: f"{name} wakes: its servers start")
            return
        lines: list[Line] = [[(f"  {name}", "bright"), (f"  {len(endpoint['replicas'])} servers end, their memory is free", "text")]]
        used = endpoint["last_used"]
        last = "never asked" if used is None else f"last asked {duration_text(self.state.clock() - used)} ago"
        lines.append([(f"  {last}; the next request starts it, and waits", "muted")])
        wish = lambda: self._wish(lambda: self.client.serving.sleep(name), lambda _: f"{name} is unloaded until it is asked")  # noqa: E731
        self._confirm(f"unload {name}?", lines, "unload it", "leave it", wish)

    # Looking closer.

    def action_requests(self) -> None:
        """The requests of the endpoint, newest first."""
        endpoint = self.chosen
        self.llmops.show_requests(f"endpoint:{endpoint['name']}" if endpoint else "")

    def action_chat(self) -> None:
        """Talk with the endpoint."""
        if self.chosen is not None:
            self.llmops.open_chat(self.chosen["name"])
        else:
            self.llmops.tell("nothing is served: a starts an endpoint from a model", "warn")

    def action_loadtest(self) -> None:
        """The form of a load test; aimed at the version under the cursor where the versions have the keys, else at the endpoint."""
        if (endpoint := self._meant()) is None:
            return
        of_version = self.focused is self.query_one("#parts") and self.version_name
        self.llmops.new_run("loadtest", given={"endpoint": f"{endpoint['name']}:{self.version_name}" if of_version else endpoint["name"]})

    def action_log(self) -> None:
        """The log of the server under the cursor, else of the version's that is worst off."""
        run = self.run_id() or self._run_of_version()
        if run:
            self.open_log(run)
        else:
            self.llmops.tell("no server of it runs here", "warn")

    def open_log(self, run_id: str) -> None:
        """The server's run, at its log."""
        self.llmops.open_run(run_id, "log")

    def action_copy(self) -> None:
        """A request to the endpoint, into the clipboard of the terminal."""
        if (endpoint := self.chosen) is not None:
            self.app.copy_to_clipboard(endpoint["curl"])
            self.llmops.tell("the curl line was sent to the terminal's clipboard (OSC 52); some terminals have to allow that", "good")

    def action_baseline(self) -> None:
        """Compare with this hour from now on, or with yesterday again."""
        endpoint = self.chosen
        if endpoint is None:
            return
        name = endpoint["name"]
        if name in self.baselines:
            del self.baselines[name]
            self.llmops.tell(f"{name} is compared with the same hour of the day before again", "good")
        else:
            self.baselines[name] = self.hour()
            self.llmops.tell(f"the last hour of {name} is its baseline now; B lets it go", "good")
        self.forget_comparisons()

    # Inner parts.

    def _meant(self) -> EndpointSummary | None:
        """The endpoint to change; None (said) where there is none or the past is shown."""
        if self.refuse_in_past():
            return None
        if self.chosen is None:
            self.llmops.tell("nothing is served: a starts an endpoint from a model", "warn")
        return self.chosen

    def servers(self) -> list[ReplicaState]:
        """Of the version under the cursor; of an adapter those of its base."""
        endpoint, version = self.chosen, self.version()
        return _servers(endpoint, version) if endpoint and version else []

    def _run_of_version(self) -> str:
        ordered = sorted(self.servers(), key=lambda replica: replica["state"] in ("ready", "ended"))
        return ordered[0]["run"] if ordered else ""

    def _confirm(self, title: str, lines: Sequence[Line], yes: str, no: str, then: Callable[[], None]) -> None:
        self.app.push_screen(ConfirmScreen(title, lines, yes, no), lambda meant: then() if meant else None)

    def _wish(
        self, wish: Callable[[], EndpointSummary], said: Callable[[EndpointSummary], str], after: Callable[[], None] | None = None
    ) -> None:
        self.run_worker(self._do(wish, said, after))

    async def _do(
        self, wish: Callable[[], EndpointSummary], said: Callable[[EndpointSummary], str], after: Callable[[], None] | None
    ) -> None:
        try:
            summary = await call(wish)
        except LlmopsError as error:
            self.llmops.tell(str(error), "bad")
            return
        if after is not None:
            after()
        self.endpoints = [summary if each["name"] == summary["name"] else each for each in self.endpoints]
        self.llmops.tell(said(summary), "good")
        if self.ready:
            self.redraw()
            self.want(now=True)

    def _stop(self, name: str) -> None:
        def gone() -> None:
            self.endpoints = [each for each in self.endpoints if each["name"] != name]
            self.redraw()
            self.want(now=True)

        self.change(lambda: self.client.serving.stop(name), f"{name} is stopped", gone)


def _servers(endpoint: EndpointSummary, version: VersionState) -> list[ReplicaState]:
    """Of a version; of an adapter those of its base."""
    home = version["adapter_of"] or version["name"]
    return [replica for replica in endpoint["replicas"] if replica["version"] == home and replica["run"]]
