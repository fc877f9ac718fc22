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
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from tunexfer.core.trial import TrialResult
from tunexfer.mlflow.client import STUDY
from tunexfer.mlflow.runs import metrics, mlflow_name, params
from tunexfer.record.deltas import Deltas
from tunexfer.record.record import Record

PREFIX = "mlflow.sharedViewState."
FAMILIES = {
    "gain": "Gain in unseen languages",
    "objective": "Objective",
    "mean": "Mean of languages",
    "worst": "Worst language",
}
"""First part of a metric's name -> heading of its charts; first what differs most, as bars start at zero."""
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
    complete = [
        replace(ended, scores=record.scores(ended.trial.number))
        for ended in record.complete
        if ended.trial.phase != "confirm"
    ]
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


def _state(complete: Sequence[TrialResult], study_id: str) -> dict[str, Any]:
    baseline = Deltas(ended for ended in complete if ended.trial.phase == "baseline")
    names = [mlflow_name(name) for name in metrics(complete[-1], baseline)]
    families = {family: [name for name in names if name.partition("/")[0] == family] for family in FAMILIES}
    choices = _choices(complete)
    columns = [_metric("objective")]
    columns += [_metric(name) for family, own in families.items() if family != "objective" for name in own]
    columns += [f"params.`{name}`" for name in choices]
    return {
        "searchFilter": f"tags.`{STUDY}` = '{study_id}' and tags.`tunexfer.phase` = 'search'",
        "orderByKey": _metric("objective"),
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["0", _NAME, *columns, _CREATED],  # "0" holds the check boxes
        "columnWidths": {_NAME: 280, **{column: _width(column) for column in columns}},
        "isAccordionReordered": True,  # else the page puts sections into alphabetical order
        **_charts(families),
    }


def _choices(complete: Sequence[TrialResult]) -> list[str]:
    """Parameters that the trials differ in; a mixture is told by its tasks and languages."""
    values: dict[str, set[str]] = {}
    for ended in complete:
        for name, value in params(ended).items():
            values.setdefault(mlflow_name(name), set()).add(value)
    told = [name for name, found in values.items() if len(found) > 1 and not name.endswith(".mixture")]
    return [name for name in told if name not in ("stages", "seed")][:MOST_CHOICES]


def _charts(families: dict[str, list[str]]) -> dict[str, Any]:
    charts, sections = [], []
    for family, names in families.items():
        section = f"section-{family}"
        sections.append({"uuid": section, "name": FAMILIES[family], "display": True, "isReordered": True})
        charts += [_chart(name, section) for name in names]
    return {"compareRunCharts": charts, "compareRunSections": sections}


def _chart(metric: str, section: str) -> dict[str, Any]:
    return {
        "type": "BAR",
        "uuid": f"chart-{metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": metric,
        "runsCountToCompare": CHARTED,
        "deleted": False,
        "isGenerated": False,
    }


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _width(column: str) -> int:
    """Pixels, so that the whole name is read."""
    return max(100, 7 * len(column.partition("`")[2]) + 25)


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
    return f"{base}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
