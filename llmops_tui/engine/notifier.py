"""Notifications: the engine's notable events, sent to the hook and the webhook of the settings. Nobody waits for it.

Events are taken from the hub like any subscriber takes them and wait in a bounded queue; deliveries are made in threads of
their own. What cannot be delivered is not tried again: it stands in the event list, which every console shows.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from llmops_tui.engine.hub import Hub
from llmops_tui.engine.notify_channels import Channel, DeliveryError, Hook, Message, Webhook
from llmops_tui.errors import ConflictError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import EngineEvent, NotifyResult
from llmops_tui.specs.notable import Notable, notable
from llmops_tui.specs.settings import NotifySettings

_MOST_WAITING = 100
_WORKERS = 4
# A thread that does not come back in time (a name server that hangs) is left behind.
_EXTRA_SECONDS = 2.0
_FAILED = "notify.failed"
log = logging.getLogger(__name__)


class Notifier:
    """Belongs to the event loop's thread."""

    def __init__(self, settings: NotifySettings, hub: Hub, home: Home, channels: Sequence[Channel]) -> None:
        self._settings = settings
        self._hub = hub
        self._home = home
        self._channels = list(channels)
        self._after = hub.last_seq
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(_MOST_WAITING)
        self._dropped = 0
        self._failing: set[str] = set()
        self._pool = ThreadPoolExecutor(_WORKERS, "notify")

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is notable until `stop` is set; a hook that runs then is ended."""
        if not self._channels:
            await stop.wait()
            return
        tasks = [asyncio.create_task(work, name="notify") for work in (self._listen(), self._send_all(), stop.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            for channel in self._channels:
                channel.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Take nothing more."""
        for channel in self._channels:
            channel.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def test(self) -> list[NotifyResult]:
        """Send one message every way there is and say what became of it. Raises ConflictError where there is none."""
        if not self._channels:
            raise ConflictError(
                "no notification is set up", f"set command or webhook under [notify] in {self._home.config} and restart the engine"
            )
        words = Notable("finished", "note", "a test of your notifications", "llmops-tui can reach you")
        message = self._message(EngineEvent(seq=0, t=time.time(), type="notify.test", run=None, data={}), words)
        return list(await asyncio.gather(*(self._result(channel, message) for channel in self._channels)))

    async def _listen(self) -> None:
        async for event in self._hub.subscribe(self._after):
            self._after = event["seq"]
            words = notable(event)
            # That a notification failed is no news for a channel that does not work.
            if words is None or event["type"] == _FAILED or words.topic not in self._settings.on:
                continue
            try:
                self._waiting.put_nowait(self._message(event, words))
            except asyncio.QueueFull:
                self._dropped += 1

    async def _send_all(self) -> None:
        while True:
            message = await self._waiting.get()
            await asyncio.gather(*(self._send(channel, message) for channel in self._channels))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._tell_failure("queue", f"{dropped} notifications were left out: more than {_MOST_WAITING} waited to be sent")
            elif self._waiting.empty():
                self._failing.discard("queue")

    async def _send(self, channel: Channel, message: Message) -> None:
        reason = await self._try(channel, message)
        if reason:
            self._tell_failure(channel.name, reason)
        elif channel.name in self._failing:
            self._failing.discard(channel.name)
            log.info("the %s works again", channel.name)

    def _tell_failure(self, channel: str, reason: str) -> None:
        """Once until it works again: a hook that is broken is broken for every event."""
        if channel in self._failing:
            return
        self._failing.add(channel)
        log.warning("the %s does not work: %s", channel, reason)
        self._hub.publish_soon(_FAILED, None, {"channel": channel, "reason": reason})

    async def _result(self, channel: Channel, message: Message) -> NotifyResult:
        began = time.monotonic()
        reason = await self._try(channel, message)
        return NotifyResult(
            channel=channel.name, target=channel.target, delivered=not reason, reason=reason, seconds=time.monotonic() - began
        )

    async def _try(self, channel: Channel, message: Message) -> str:
        """Why it was not delivered; empty when it was."""
        limit = self._settings.timeout_seconds + _EXTRA_SECONDS
        sending = asyncio.get_running_loop().run_in_executor(self._pool, channel.send, message)
        try:
            await asyncio.wait_for(sending, limit)
        except DeliveryError as error:
            return str(error)
        except TimeoutError:
            return f"{channel.target} did not come to an end within {limit:g} s"
        except Exception as error:  # a fault of ours must not end the others' notifications
            log.exception("sending a notification failed")
            return f"{type(error).__name__}: {error}"
        return ""

    def _message(self, event: EngineEvent, words: Notable) -> Message:
        return Message(
            event["type"], event["t"], event["run"], words.topic, words.level, words.title, words.text,
            socket.gethostname(), str(self._home.root), event["data"],
        )  # fmt: skip


def channels_of(settings: NotifySettings) -> list[Channel]:
    """What the settings name. Raises UsageError for a hook that is no program."""
    channels: list[Channel] = []
    if settings.command:
        channels.append(Hook(settings.command, settings.timeout_seconds))
    if settings.webhook and (url := settings.webhook.get_secret_value()):
        channels.append(Webhook(url, settings.timeout_seconds))
    return channels
