"""A study's trials on MLflow's page: the best on top, the few columns that matter first, charts in the same order.

What the page shows is up to the browser, save for its "views": states that are kept as tags of the experiment, shown in
its menu Views, and opened by an address. The state's fields and the tag are those of MLflow 3.17's page (read in its
JavaScript; there is no API for them). A page that doesn't know them shows what it always does.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from tunexfer.tracking.deltas import Deltas
from tunexfer.tracking.mlflow.store import STUDY
from tunexfer.tracking.mlflow.trial_run import metrics, mlflow_name, params
from tunexfer.tracking.record import Record
from tunexfer.tracking.trial import Ended

PREFIX = "mlflow.sharedViewState."
FAMILIES = {
    "gain": "Gain over the baseline: mean of unseen languages, points",
    "mean": "Mean of languages",
    "worst": "Worst language",
}
"""Start of a metric's name -> heading of its charts."""
MOST_CHOICES = 6
"""Columns of what the trials differ in."""
COMPARED = 5
"""Trials side by side, besides the baseline."""
CHARTED = 10
"""Runs that a chart shows: the page's own number."""
_NAME, _CREATED = "attributes.`Run Name`", "runDateAndNestInfo"


def view_key(study_id: str) -> str:
    return f"tunexfer-{study_id}"


def view_tag(record: Record) -> str | None:
    """The value of the experiment's tag `PREFIX + view_key`; None while no trial is complete.

    It depends on the record alone, so that it is sent only when something is new.
    """
    complete = [ended for ended in record.complete if ended.trial.phase != "confirm"]
    if not complete:
        return None
    state = json.dumps(_state(complete, record.study_id))
    created = int(complete[0].started * 1000)
    return json.dumps(
        {
            "name": f"{record.folder.name}: best first",
            "createdAt": created,
            "updatedAt": created,
            "state": "deflate;" + base64.b64encode(zlib.compress(state.encode())).decode(),
        }
    )


def _state(complete: Sequence[Ended], study_id: str) -> dict[str, Any]:
    deltas = Deltas(complete)
    names = [mlflow_name(name) for name in metrics(complete[-1], deltas)]
    families = {family: [name for name in names if name.startswith(f"{family}/")] for family in FAMILIES}
    choices = _choices(complete)
    columns = [_metric("objective"), *(_metric(name) for family in families.values() for name in family)]
    columns += [f"params.`{name}`" for name in choices]
    return {
        "searchFilter": f"tags.`{STUDY}` = '{study_id}' and tags.`tunexfer.phase` = 'search'",
        "orderByKey": _metric("objective"),
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["0", _NAME, *columns, _CREATED],  # "0" holds the check boxes
        "columnWidths": {_NAME: 280, **{column: _width(column) for column in columns}},
        "isAccordionReordered": True,  # else the page puts sections into alphabetical order
        **_charts(families, choices),
    }


def _choices(complete: Sequence[Ended]) -> list[str]:
    """Parameters that the trials differ in; a mixture is told by its tasks and languages."""
    values: dict[str, set[str]] = {}
    for ended in complete:
        for name, value in params(ended).items():
            values.setdefault(mlflow_name(name), set()).add(value)
    told = [name for name, found in values.items() if len(found) > 1 and not name.endswith(".mixture")]
    return [name for name in told if name not in ("stages", "seed")][:MOST_CHOICES]


def _charts(families: dict[str, list[str]], choices: list[str]) -> dict[str, Any]:
    charts, sections = [], []
    for key, (title, names) in {
        "objective": ("Objective", ["objective"]),
        **{family: (FAMILIES[family], names) for family, names in families.items()},
    }.items():
        sections.append({"uuid": f"section-{key}", "name": title, "display": True, "isReordered": True})
        for name in names:
            charts.append(_chart("BAR", name, f"section-{key}") | {"metricKey": name, "runsCountToCompare": CHARTED})
    if choices:
        choosing = {"selectedParams": choices, "selectedMetrics": ["objective"], "showAllRuns": True}
        charts.append(_chart("PARALLEL", "choices", "section-objective") | choosing)
    return {"compareRunCharts": charts, "compareRunSections": sections}


def _chart(kind: str, name: str, section: str) -> dict[str, Any]:
    own = {"displayName": name, "deleted": False, "isGenerated": False}
    return {"type": kind, "uuid": f"chart-{name}", "metricSectionId": section, **own}


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _width(column: str) -> int:
    """Pixels, so that the whole name is read."""
    return max(110, 8 * len(column.partition("`")[2]) + 40)


def trials_address(base: str, experiment: str, study_id: str, *, charts: bool) -> str:
    """Where the page shows all trials of a study, the best on top: as a table, or the best ten as charts."""
    mode = "&compareRunsMode=CHART" if charts else ""
    key = view_key(study_id)
    return f"{base}/#/experiments/{experiment}/runs?viewStateShareKey={key}{mode}&workflowType=machine_learning"


def compare_address(base: str, experiment: str, runs: Sequence[str]) -> str:
    """Where the page puts runs side by side, every parameter and metric a row."""
    asked = (("runs", list(runs)), ("experiments", [experiment]))
    return f"{base}/#/compare-runs?" + "&".join(
        f"{name}={quote(json.dumps(value, separators=(',', ':')))}" for name, value in asked
    )


def run_address(base: str, experiment: str, run: str) -> str:
    return f"{base}/#/experiments/{experiment}/runs/{run}"
