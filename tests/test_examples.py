"""examples/: its files can be read, fit together, and ask for what is really exported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import Question, SemanticCache, Telemetry

EXAMPLES = Path(__file__).parents[1] / "examples"
ASKED = "how do i reset the password of my account"
DASHBOARD = json.loads((EXAMPLES / "grafana/dashboards/semcache.json").read_text())


def queries() -> list[str]:
    """All that the dashboard asks Prometheus."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [v["query"]["query"] for v in DASHBOARD["templating"]["list"]]
    return panels + variables


@pytest.fixture
def exported(plain: Served) -> Iterator[dict[str, set[str]]]:
    """Names of what Prometheus would get, with the labels of each; everything happens once."""
    reader = PrometheusMetricReader(disable_target_info=True)
    meters = MeterProvider([reader])
    options: dict[str, Any] = plain.options | {"telemetry": Telemetry(meter_provider=meters)}

    def embed(text: str) -> Any:
        if text == "fails":
            raise ConnectionError
        return HashingEmbedder().answer(text)

    asked = Question(ASKED, identity="gpt-4o", model="gpt-4o")
    with SemanticCache(HashingEmbedder(embed), **options) as cache:
        cache.lookup(asked)
        cache.store(asked, "x", usage={"input_tokens": 9, "output_tokens": 9})
        cache.lookup(asked)
        cache.lookup("fails")
        cache.skip("too dull")
        text = generate_latest(REGISTRY).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield {name: labels for name, labels in found.items() if name.startswith("semcache_")}
    meters.shutdown()


def test_the_dashboard_asks_for_metrics_and_labels_that_are_exported(
    exported: dict[str, set[str]],
) -> None:
    asked_for: set[str] = set()
    for query in queries():
        names = set(re.findall(r"\b(semcache_\w+)(?=\{|, semcache_name\))", query))
        assert names, query
        assert names <= set(exported), query
        asked_for |= names
        known = {label for name in names for label in exported[name]}
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert {label.strip() for label in grouped.split(",")} <= known, query
        for label in re.findall(r"[{,]\s*(\w+)=", query):
            assert label in known, query
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in target["expr"]
    everything = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in exported}
    shown = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in asked_for}
    assert shown == everything, "each metric has its panel"


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"valkey", "collector", "prometheus", "grafana"}
    for service in services.values():
        for mount in service.get("volumes", []):
            assert (EXAMPLES / mount.split(":")[0]).exists(), mount
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    provisioning = EXAMPLES / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/semcache.yaml").read_text())[
        "providers"
    ]
    assert (
        f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    )
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_collector_passes_on_what_prometheus_fetches() -> None:
    collector = yaml.safe_load((EXAMPLES / "collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])
    prometheus = yaml.safe_load((EXAMPLES / "prometheus.yaml").read_text())
    (target,) = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    port = collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert target == f"collector:{port}"
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    received = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert f"127.0.0.1:{received}:{received}" in compose["collector"]["ports"]


class _Collector(BaseHTTPRequestHandler):
    got: list[tuple[str, int]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, len(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def test_the_app_sends_spans_and_metrics_to_the_collector(
    plain: Served,
) -> None:
    """Run as it stands, against a collector that only counts what comes."""
    _Collector.got = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        collector = f"http://127.0.0.1:{server.server_address[1]}"
        program = """
import sys, runpy, time
time.sleep = lambda seconds: None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
        command = [sys.executable, "-c", program, str(EXAMPLES / "app.py")]
        options = ["--url", plain.url, "--collector", collector, "--times", "12"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "hit rate" in done.stdout
    assert {path for path, size in _Collector.got if size > 100} == {"/v1/metrics", "/v1/traces"}
