"""What the gateway's benchmarks stand on: the C backend and generator around a real gateway process, for a moment."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gateway_kills
import gateway_rig
import gateway_streams

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> gateway_rig.Tools:
    return gateway_rig.Tools(tmp_path_factory.mktemp("tools"))


def test_every_answer_that_the_generator_saw_whole_is_in_the_record_once(tools: gateway_rig.Tools, tmp_path: Path) -> None:
    with tools.backends(ahead=True) as ports:
        gateway = gateway_rig.OurGateway(tmp_path, ports)
        try:
            ledger = tmp_path / "ledger"
            told = tools.load(gateway.port, [tools.json_request, tools.stream_request], 8, 20, 0, count=300, ledger=ledger)
            figures = gateway_rig.Throughput()
            figures.measure("ours", tools, gateway, tools.json_request, 4, 0.3)
        finally:
            gateway.close()
        records = [json.loads(line) for line in gateway.records()]
    assert told["answers"] >= 300
    assert (told["refused"], told["broken"], told["silently_cut"], told["unanswered"]) == (0, 0, 0, 0)
    assert figures.by_core > 0
    recorded = Counter(record["id"] for record in records)
    answered = [line.split()[0] for line in ledger.read_text().splitlines()]
    assert len(answered) == told["answers"]
    assert all(recorded[each] == 1 for each in answered)
    streams = [record for record in records if record["stream"]]
    assert {record["completion_tokens"] for record in streams} == {gateway_rig.TOKENS}
    assert {record["replica"] for record in records} == {"r0", "r1"}


def test_paced_tokens_carry_the_time_that_they_were_under_way(tools: gateway_rig.Tools, tmp_path: Path) -> None:
    with tools.backends(tokens=10, rate=100) as ports:
        gateway = gateway_rig.OurGateway(tmp_path, ports)
        try:
            told = tools.load(gateway.port, [tools.stream_request], 4, 20, 0, count=8, paced=True)
        finally:
            gateway.close()
    assert told["answers"] >= 8
    assert told["transit"]["count"] == 10 * told["answers"]
    assert told["gap_change"]["count"] == 9 * told["answers"]


def test_the_generator_sees_a_stream_that_was_cut_as_broken(tools: gateway_rig.Tools, tmp_path: Path) -> None:
    seen, told = gateway_kills.killed(tools, tmp_path, 1500, 1, random.Random(7))
    assert told["kills"] == 1
    assert told["answers"] >= 1500
    assert seen["broken"] > 0
    assert (seen["silently_cut"], told["without_a_line"], told["ids_with_two_lines"], told["torn_lines"]) == (0, 0, 0, 0)


def test_streams_that_idle_are_held_and_clients_that_hardly_read_cost_bounded_memory(tools: gateway_rig.Tools, tmp_path: Path) -> None:
    held = gateway_streams.idle(tools, tmp_path, 50, 0.5)
    assert (held["begun"], held["broken"]) == (50, 0)
    others = gateway_streams.slow(tools, tmp_path, 0.5)
    assert others["while"]["grown_mib"] < gateway_streams.SLOW_RSS_MIB
    assert others["while"]["faults"] == 0


def test_a_crowd_that_comes_at_once_is_answered_to_the_last(tools: gateway_rig.Tools, tmp_path: Path) -> None:
    with tools.backends() as ports:
        gateway = gateway_rig.OurGateway(tmp_path, ports)
        try:
            told = tools.load(gateway.port, [tools.stream_request], 1500, 60, 0, count=1500)
        finally:
            gateway.close()
    assert told["answers"] >= 1500
    assert (told["refused"], told["broken"], told["silently_cut"], told["unanswered"]) == (0, 0, 0, 0)
