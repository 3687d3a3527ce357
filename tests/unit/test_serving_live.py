"""An endpoint's panel: load from the servers' own metrics, energy and money from counters, and the reason where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tui.engine.endpoints.entry import Entry, checked
from llmops_tui.engine.endpoints.planning import Server
from llmops_tui.engine.recorded.live import endpoint_live, spool_warnings
from llmops_tui.engine.recorded.spending import Counters, Spending
from llmops_tui.engine.tariff import Tariff
from llmops_tui.specs.answers_requests import EndpointLive

T0 = 1_790_000_000.0
SPEC = {
    "name": "support",
    "versions": [
        {"name": "v1", "model": "m", "weight": 1},
        {"name": "tuned", "model": "a", "adapter_of": "v1"},
        {"name": "v2", "model": "n"},
        {"name": "away", "provider": "remote"},
    ],
}
SERVERS = [Server("serve-1", "v1", "ready", T0), Server("serve-2", "v1", "ready", T0), Server("serve-3", "v2", "ended", T0)]


def look(minutes: float, tokens: dict[str, int], joules: dict[str, float | None], **more: dict[str, float]) -> Counters:
    t = T0 + 60 * minutes
    return Counters(t, tokens, more.get("paid", {}), joules, more.get("gpu_seconds", {}))


def live(spending: Spending, gpus: int = 2, tariff: Tariff | None = None, **fields: Any) -> EndpointLive:
    entry = Entry(checked(SPEC), "me", 1000, "/", T0)
    return endpoint_live(
        entry, fields.get("servers", SERVERS), fields.get("status", {}), fields.get("latest", {}), spending,
        tariff or Tariff(), "EUR", gpus, T0,
    )  # fmt: skip


def spent(*looks: Counters) -> Spending:
    spending = Spending()
    for each in looks:
        spending.note(each)
    return spending


def test_energy_is_that_of_all_servers_by_the_tokens_they_answered_and_adapters_share_their_bases() -> None:
    spending = spent(
        look(0, {"v1": 1000, "tuned": 0, "v2": 0}, {"serve-1": 50.0, "serve-2": None}),
        look(5, {"v1": 2000, "tuned": 0, "v2": 0}, {"serve-1": 1050.0, "serve-2": 100.0}),
        look(10, {"v1": 4000, "tuned": 1000, "v2": 500}, {"serve-1": 3050.0, "serve-2": 2100.0, "serve-3": 700.0}),
    )
    told = live(spending)
    for version in ("v1", "tuned"):  # 3,000 J and 2,000 J for 4,000 tokens
        assert told["versions"][version]["joules_per_1k_tokens"] == pytest.approx(1250)
    assert told["versions"]["v2"]["joules_per_1k_tokens"] == pytest.approx(1400), "a server that came later began at nothing"
    assert told["versions"]["away"]["joules_per_1k_tokens"] is None
    assert told["energy_basis"] == "GPU energy of its servers over the last 10 min, idle time included, by the tokens they answered"


def test_money_is_the_tariffs_for_ones_own_servers_and_the_price_for_a_provider() -> None:
    held = [{"serve-1": 0.0, "serve-2": 0.0}, {"serve-1": 600.0, "serve-2": 600.0}]
    spending = spent(
        look(0, {"v1": 0, "away": 0}, {"serve-1": 0.0, "serve-2": 0.0}, paid={"away": 1.0}, gpu_seconds=held[0]),
        look(10, {"v1": 10_000, "away": 4000}, {"serve-1": 3.6e5, "serve-2": 3.6e5}, paid={"away": 1.5}, gpu_seconds=held[1]),
    )
    told = live(spending, tariff=Tariff(per_kwh=0.5, per_gpu_hour=3.0))
    assert told["versions"]["v1"]["cost_per_1k_tokens"] == pytest.approx((0.2 * 0.5 + 1200 / 3600 * 3) / 10)
    assert told["versions"]["away"]["cost_per_1k_tokens"] == pytest.approx(0.125)
    assert told["currency"] == "EUR"
    assert live(spending)["versions"]["v1"]["cost_per_1k_tokens"] is None, "without a tariff nothing has a price"


def test_counters_that_begin_anew_are_no_negative_amount() -> None:
    spending = spent(
        look(0, {"v1": 9000}, {"serve-1": 0.0}), look(1, {"v1": 10_000}, {"serve-1": 100.0}), look(2, {"v1": 500}, {"serve-1": 300.0}),
    )  # fmt: skip
    assert live(spending)["versions"]["v1"]["joules_per_1k_tokens"] == pytest.approx(300 / 1.5)


def test_only_the_last_hour_counts() -> None:
    spending = spent(
        *(look(minute, {"v1": minute * 100}, {"serve-1": 1e6 if minute < 100 else 1e6 + (minute - 100) * 60}) for minute in range(181))
    )
    assert spending.seconds == 3600
    assert live(spending)["versions"]["v1"]["joules_per_1k_tokens"] == pytest.approx(3600 / 6)


@pytest.mark.parametrize(
    ("spending", "fields", "words"),
    [
        (Spending(), {"servers": []}, "no server of one's own"),
        (Spending(), {"gpus": 0}, "this box has no GPU"),
        (spent(look(0, {"v1": 0}, {}), look(5, {"v1": 100}, {})), {}, "its servers hold no GPU"),
        (spent(look(0, {"v1": 0}, {"serve-1": 1.0}), look(0.5, {"v1": 100}, {"serve-1": 2.0})), {}, "known once it was metered for 60 s"),
        (spent(look(0, {"v1": 7}, {"serve-1": 1.0}), look(5, {"v1": 7}, {"serve-1": 2.0})), {}, "no token was answered"),
        (
            spent(
                look(0, {"v1": 0}, {"serve-1": None}, gpu_seconds={"serve-1": 0.0}),
                look(5, {"v1": 100}, {"serve-1": None}, gpu_seconds={"serve-1": 300.0}),
            ),
            {},
            "tell neither energy nor power",
        ),
    ],
)
def test_where_energy_is_not_known_it_is_said_why(spending: Spending, fields: dict[str, Any], words: str) -> None:
    told = live(spending, **fields)
    assert words in told["energy_basis"]
    assert {version["joules_per_1k_tokens"] for version in told["versions"].values()} == {None}


def test_load_is_summed_or_averaged_over_a_versions_servers_and_windows_are_the_gateways() -> None:
    latest = {
        "serve-1": {"serve/running": 2.0, "serve/waiting": 1.0, "serve/kv_cache_fraction": 0.5, "serve/prefix_hit_fraction": float("nan")},
        "serve-2": {"serve/running": 3.0, "serve/kv_cache_fraction": 0.1, "serve/generated_tokens_per_second": 40.0},
        "serve-3": {"serve/running": 9.0},
    }
    status = {
        "latency": {"support": {"v1": {"60": {"requests": 5, "ttft_p50": 12.5}}}},
        "latency_mirrored": {"support": {"v2": {"60": {"requests": 1}}}},
    }
    told = live(Spending(), latest=latest, status=status)["versions"]
    assert told["v1"]["load"] == {
        "running": 5.0, "waiting": 1.0, "kv_cache_fraction": 0.3, "prefix_hit_fraction": None, "generated_tokens_per_second": 40.0,
    }  # fmt: skip
    assert told["tuned"]["load"] == told["v1"]["load"]
    assert told["v2"]["load"]["running"] is None, "its server has ended"
    assert told["v1"]["windows"] == {"60": {"requests": 5, "ttft_p50": 12.5}}
    assert (told["v2"]["windows"], told["v2"]["mirrored"]) == ({}, {"60": {"requests": 1}})


def test_records_that_did_not_reach_the_disk_are_told() -> None:
    assert spool_warnings({}) == []
    assert spool_warnings({"spool": {"waiting": 0, "lost": 0}, "texts": {"waiting": 0, "lost": 0}}) == []
    told = spool_warnings({"spool": {"waiting": 20, "lost": 1500}, "texts": {"waiting": 3, "lost": 0}})
    assert [line.split(":")[0] for line in told] == [
        "1,500 records of requests are lost",
        "20 records of requests wait in the gateway's memory",
        "3 kept texts wait in the gateway's memory",
    ]
