"""The Grafana dashboard asks for what is exported; the Prometheus configuration reads what Ray writes."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

from tunexfer.search.gauges import METRICS

FOLDER = Path(__file__).parent.parent / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def test_the_dashboard_asks_for_every_metric_that_is_exported_and_no_other() -> None:
    asked = [target["expr"] for panel in PANELS for target in panel["targets"]]
    asked += [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    names = {name for query in asked for name in re.findall(r"ray_\w+", query)}
    assert names == {f"ray_{name}" for name in METRICS}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_uses_only_tags_that_its_metric_has(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        [name] = re.findall(r"ray_(\w+)", target["expr"])
        tags = set(METRICS[name][1])
        by, *inner = (set(found.split(", ")) for found in re.findall(r"by \(([^)]*)\)", target["expr"]))
        assert set(re.findall(r"(\w+)=~", target["expr"])) <= tags
        assert all(found <= tags for found in (by, *inner))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == by


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_series_that_an_earlier_driver_left_are_never_added_to_those_of_its_successor(panel: dict[str, Any]) -> None:
    """A driver's process and node are tags too: of series that differ in those alone the largest is taken first."""
    for target in panel["targets"]:
        [(how, by)] = re.findall(r"(\w+) by \(([^)]*)\) \(ray_", target["expr"])
        assert how == "max"
        if "sum" in target["expr"]:
            [name] = re.findall(r"ray_(\w+)", target["expr"])
            assert by.split(", ") == list(METRICS[name][1])


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_every_variable_that_a_query_uses_is_defined() -> None:
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)\}?", json.dumps(PANELS))) == known


def test_prometheus_reads_the_file_into_which_ray_writes_its_addresses() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = config["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
