"""Running a plan: what it reads is prepared, then the search runs, is shown, recorded and mirrored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tunexfer.cli.live import LiveView
from tunexfer.cli.tables import notes
from tunexfer.core.chain import Encoder
from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import Contents
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.mlflow.mirror import Mirror
from tunexfer.plan.plan import Plan
from tunexfer.record.environment import Dataset, write_datasets
from tunexfer.record.folder import How
from tunexfer.record.record import Record
from tunexfer.store import StageStore
from tunexfer.tasks.installed import build, encoder_provider

if TYPE_CHECKING:
    from tunexfer.record.findings import Findings
    from tunexfer.report.study import Study
    from tunexfer.search.loop import SearchLoop
    from tunexfer.training.executor import Executor

GIGABYTE = 10**9


def launch(
    plan: Plan,
    folder: StudyFolder,
    console: Console,
    *,
    cache: Path,
    store: str,
    tracking_uri: str,
    concurrent: int | None = None,
    address: str | None = None,
    quiet: bool = False,
) -> tuple[Findings, SearchLoop]:
    """Run the trials that the study in `folder` lacks.

    console: for progress and warnings
    store:   a folder or a URL
    returns: the findings, and the search as it ended
    raises: TunexferError, with what to do about it
    """
    from tunexfer.search.ray_tune import run_search

    @functools.cache
    def studied() -> Study:
        """Read what the search has found, once it is over."""
        from tunexfer.report.study import Study

        return Study.load(folder.path)

    def draw(to: Path) -> None:  # for those who see the study in MLflow alone
        from tunexfer.report.page import write_report

        write_report([studied()], to)

    with Record.drive(folder, plan.as_dict()) as record:
        prepared = prepare_all(plan, cache, console, quiet=quiet)
        contents = contents_of(prepared)
        datasets = datasets_read(plan, contents)
        write_datasets(folder, datasets)
        for line in notes(() if quiet else plan.rows.remarks(plan.read_keys), plan.rows.warnings(plan.read_keys)):
            console.print(line, soft_wrap=True)
        for data in datasets:
            if data.rows != (planned := plan.rows.count(data.task, data.language, data.split)):
                place = f"task {data.task!r}, {data.split} in {data.language!r}"
                console.print(f"{place}: {data.rows:,} rows were read, but `rows:` says {planned:,}.", markup=False)
        shared = {"cache": cache} | ({} if "://" in store else {"stage store": Path(store)})
        wants = plan.file.resources
        size, copies, device = int(wants.store_gb * GIGABYTE), cache / "store", "cuda" if wants.gpus else "cpu"
        executor = functools.partial(
            make_executor, prepared, store, store_bytes=size, copies=copies, device=device, threads=wants.cpus
        )
        stages = StageStore(store, size, copies=copies)
        view = LiveView(folder, quiet=quiet, console=console)
        mirror = Mirror(record, tracking_uri, view.warning, draw=draw, find=lambda: studied().findings).start()
        state: How = "failed"
        try:
            with view:
                search = run_search(
                    plan, record, stages, contents, executor, [view, mirror],
                    concurrent=concurrent, address=address, shared=shared,
                )  # fmt: skip
            state = search.state
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        finally:
            mirror.close(state)
        return studied().findings, search


def datasets_read(plan: Plan, contents: Mapping[str, Contents]) -> list[Dataset]:
    """List the rows that the plan's trials can train on or are scored on.

    contents: as `contents_of` returns them
    """
    digests = {key: digest for own in contents.values() for key, digest in own.rows.items()}
    counts = {key: count for own in contents.values() for key, count in own.counts.items()}
    return [
        Dataset(
            task=task,
            language=language,
            split=split,
            rows=counts[task, language, split],
            digest=digest,
            suite=plan.suite.name,
            hub=plan.rows.address(task, language, split),
            left_out=plan.rows.left_out(task, language, split),
        )
        for (task, language, split), digest in sorted(digests.items())
    ]


def make_executor(
    prepared: Mapping[str, Path], store: str, *, store_bytes: int, device: str, threads: int, copies: Path | None = None
) -> Executor:
    """Make what runs jobs on a device: only there torch is imported.

    copies: folder for copies of what a store behind a URL holds
    """
    from tunexfer.training.executor import Executor

    return Executor(prepared, StageStore(store, store_bytes, copies=copies), device=device, threads=threads)


def contents_of(prepared: Mapping[str, Path]) -> dict[str, Contents]:
    """Read what the keys and the costs of a plan's jobs depend on: encoder's identity -> contents.

    prepared: as `prepare_all` returns it
    """
    loaded = {name: Prepared.load(file) for name, file in prepared.items()}
    return {
        name: replace(own.contents, counts={key: own.encoded(*key).row_count for key in own.contents.rows})
        for name, own in loaded.items()
    }


def prepare_all(plan: Plan, cache: Path, console: Console, *, quiet: bool = False) -> dict[str, Path]:
    """Build, fetch and encode all that the plan's trials read; what is there already is kept.

    returns: encoder's identity -> the file that `Prepared.load` takes
    """
    prepared: dict[str, Path] = {}
    encoders: dict[str, Encoder] = {}
    for encoder in plan.encoders:
        if encoder.pooling == "first" or encoder.identity not in encoders:  # causal models are refused with it
            encoders[encoder.identity] = encoder
    with progress_bar(console, quiet=quiet) as show:
        plan.rows.build(show)
        for name, encoder in encoders.items():
            if provider := encoder_provider(encoder.name):
                build(provider, cache, show)
            prepared[name] = prepare(
                suite=plan.suite,
                folder=plan.suite_folder,
                encoder=encoder,
                sources=plan.possible_sources,
                evaluated=plan.evaluated,
                layers=plan.layers(encoder),
                precision=plan.precision,
                cache=cache,
                on_progress=lambda count, of, name=name: show(f"encoding rows for {name}", count / max(of, 1)),  # type: ignore[misc]
            ).path
    return prepared


@contextmanager
def progress_bar(console: Console, *, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar per thing that is made, shown from its first report on; no bar for what was there already."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, share: float) -> None:
            if what not in tasks:
                if share >= 1:
                    return
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=share)

        yield show
