"""Requests through the gateway while kill -9 hits it: has each answer that came whole its line in the record, and one only?

    python benchmarks/gateway_kills.py [--quick]

32 connections ask without a pause, JSON and streams in turn; at twenty random moments the gateway is killed and started again at once, as
the engine does. The generator notes the x-request-id of each answer that came whole, and what its connections saw of the others. In the
end the spool is held against that: no answer without its line, none with two, no line broken, and no stream that ended for its client as
a whole one does without being whole. What was under way at a kill has no answer, and its client's connection broke; its line may be there
or not. (record_kills.py goes on from here to the rows of the database, with an engine that is killed too.)

There is no peer: the proxies that gateway.py measures keep no record of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway_rig import OurGateway, Tools, free_port

KILLS = 20
REQUESTS = 1_000_000
CONNECTIONS = 32


def killed(tools: Tools, home: Path, requests: int, kills: int, dice: random.Random) -> tuple[dict[str, int], dict[str, int]]:
    """What the generator saw, and what the spool holds against it."""
    port = free_port()
    ledger = home / "ledger"
    with tools.backends() as ports, ThreadPoolExecutor(1) as pool:
        gateway = OurGateway(home, ports, port)
        load = pool.submit(
            tools.load, port, [tools.json_request, tools.stream_request], CONNECTIONS, 7200, 0, count=requests, again=True, ledger=ledger
        )
        try:
            done = 0
            at = sorted(dice.sample(range(requests // 50, requests), kills))
            while not load.done():
                answered = sum(each.stat().st_size for each in (ledger,) if each.exists()) // _LEDGER_BYTES
                if done < kills and answered >= at[done]:
                    gateway.close(signal.SIGKILL)
                    gateway = OurGateway(home, ports, port)
                    done += 1
                threading.Event().wait(dice.uniform(0.001, 0.01))
            seen = load.result()
        finally:
            gateway.close()
        lines: Counter[str] = Counter()
        status: dict[str, int] = {}
        torn = 0
        for line in gateway.records():
            try:
                record = json.loads(line)
            except ValueError:
                torn += 1
                continue
            lines[record["id"]] += 1
            status[record["id"]] = record["status"]
    answers = [line.split() for line in ledger.read_text().splitlines()]
    told = {
        "kills": done,
        "answers": len(answers),
        "answered_twice": len(answers) - len({each[0] for each in answers}),
        "without_a_line": sum(each[0] not in lines for each in answers),
        "with_another_status": sum(status.get(each[0], int(each[1])) != int(each[1]) for each in answers),
        "lines": sum(lines.values()),
        "ids_with_two_lines": sum(count > 1 for count in lines.values()),
        "torn_lines": torn,
    }
    return seen, told


_LEDGER_BYTES = len("req_0123456789abcdef00000001 200\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 requests instead of a million")
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1, help="seed of the kill moments")
    options = parser.parse_args()
    requests = options.requests or (20_000 if options.quick else REQUESTS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmops-gateway-kills-") as place:
        home = Path(place)
        seen, told = killed(Tools(home / "tools"), home, requests, KILLS, random.Random(options.seed))
    print(f"{told['answers']:,} answers came whole, {told['kills']} kills, {time.monotonic() - began:.0f} s")
    print(f"  broken for their clients, visibly {seen['broken']:>6}   connections refused meanwhile {seen['unconnected']:>6}")
    print(f"  streams cut that looked whole     {seen['silently_cut']:>6}   answers that were an error    {seen['refused']:>6}")
    print(
        f"  answers without a line            {told['without_a_line']:>6}   with two lines                {told['ids_with_two_lines']:>6}"
    )
    print(f"  broken lines                      {told['torn_lines']:>6}   with another status           {told['with_another_status']:>6}")
    faults = sum(told[name] for name in ("answered_twice", "without_a_line", "with_another_status", "ids_with_two_lines", "torn_lines"))
    faults += seen["silently_cut"] + seen["unanswered"]
    holds = faults == 0 and told["kills"] == KILLS and told["answers"] >= requests and seen["broken"] > 0
    ours = {**told, "broken": seen["broken"], "silently_cut": seen["silently_cut"], "refused": seen["refused"]}
    print(
        json.dumps(
            {"benchmark": "gateway_kills", "ours": ours, "peer": None, "ratio": None, "bar": "0 lost, 0 doubled, 0 torn", "holds": holds}
        )
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
