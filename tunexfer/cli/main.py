"""The command line: read, validate, call. Results go to standard output, progress to standard error."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunexfer.cli.doctor import diagnose, diagnosis_table
from tunexfer.cli.init import init_folder
from tunexfer.cli.launch import launch
from tunexfer.cli.live import watch as watch_study
from tunexfer.cli.show import rows_view
from tunexfer.cli.tables import console, plan_view, scores_view, show_summary, suite_table
from tunexfer.core.chain import Encoder
from tunexfer.core.files import StudyFolder, unwritable, write_whole
from tunexfer.core.phrases import without_passwords
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError, SpaceError, StudyError, TunexferError
from tunexfer.export.folders import find_trial
from tunexfer.export.replay import export_replay
from tunexfer.export.xtreme import export_xtreme
from tunexfer.export.xtreme_scores import remarks, score_folders
from tunexfer.mlflow.client import default_uri, find_experiment, find_uri, is_remote, settle
from tunexfer.plan.cost import estimate
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import find_space, name_problem
from tunexfer.record.folder import read_plan
from tunexfer.store import StageStore
from tunexfer.tasks.suite import load_suite, named_suites

app = typer.Typer(
    help="Search over intermediate-task chains for zero-shot cross-lingual transfer.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

SpaceArgument = Annotated[
    str, typer.Argument(help="A space file, or the name of a shipped space, for example multitask.")
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a value of the space, for example `--set stages[0].steps=20`. The value is YAML. Repeatable.",
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the search and of all training.")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Number of trials to finish, including the baseline.")]
StoreOption = Annotated[str | None, typer.Option(help="Stage store: a folder, or a URL that fsspec can open.")]
SearchStoreOption = Annotated[
    str | None, typer.Option(help="Stage store of the search, if it was not the default; for models alone.")
]
StudyArgument = Annotated[Path, typer.Argument(help="Study folder, for example `runs/multitask`.")]
TrialOption = Annotated[int | None, typer.Option(help="Trial number; the best trial by default.")]
ENCODER = "FacebookAI/xlm-roberta-base"
EncoderOption = Annotated[str, typer.Option(help="Encoder: an id on the hub, a folder, or that of a package.")]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow tracking URI; by default the one that the search used, else a SQLite file in the runs folder."
    ),
]


def main() -> None:
    """Run the `tunexfer` command; a user's mistake ends it with a message and exit code 2.

    What the terminal's encoding can't show is shown as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except TunexferError as error:
        for line in str(error).splitlines():
            print(line, file=sys.stderr)
        sys.exit(2)


def cache_folder() -> Path:
    """The folder for built suites, encoders and encoded rows: `TUNEXFER_CACHE`, else one in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunexfer"
    return Path(os.environ.get("TUNEXFER_CACHE") or default).absolute()


def _writable(folder: Path, move: str) -> Path:
    """Return the folder.

    raises: StudyError, ending with the next move, if no files can be written into it
    """
    if reason := unwritable(folder):
        raise StudyError(f"{reason}. {move}")
    return folder


def _writable_cache() -> Path:
    return _writable(cache_folder(), "Name another folder for the cache in the environment variable TUNEXFER_CACHE.")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DATA_FOLDER", help="Folder with the files of your own data.")],
    encoder: EncoderOption = ENCODER,
    force: Annotated[bool, typer.Option("--force", help="Overwrite `suite.yaml` and `space.yaml`.")] = False,
) -> None:
    """Look at the files in DATA_FOLDER, and write a suite and a first space beside them.

    Kinds of task, columns, labels, languages and splits are guessed from names and contents. A line that begins with
    `# ?` in the two files says what is not sure.
    """
    init_folder(folder, encoder, console(), cache=_writable_cache(), force=force)


@app.command()
def doctor(
    runs: Annotated[Path, typer.Option(help="Folder of studies.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow tracking URI, as for `search`.")
    ] = None,
    encoder: EncoderOption = ENCODER,
) -> None:
    """Check the set-up: Ray, GPU, disks, MLflow, the hub and memory; say what to do about each problem.

    Exit codes: 0 if searches can run, 1 if something is broken.
    """
    uri = tracking_uri or default_uri(runs)
    found = diagnose(cache=cache_folder(), runs=runs, tracking_uri=uri, encoder=Encoder(name=encoder))
    console().print(diagnosis_table(found))
    if any(finding.state == "broken" for finding in found.values()):
        raise typer.Exit(1)


@app.command()
def plan(
    space: SpaceArgument,
    set_: SetOption = [],  # noqa: B006  typer copies it
    trials: TrialsOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
) -> None:
    """Preview a search: what SPACE would train and evaluate, and what that costs. Nothing is trained or downloaded.

    Every option of every choice and both ends of every range are checked, so that mistakes are reported now.
    """
    loaded = load_plan(space, set_, trials, seed)
    console().print(plan_view(loaded, estimate(loaded, cache_folder(), store_location(store))))


@app.command()
def tasks(
    suite: Annotated[str | None, typer.Option(help="Name of a suite, or a suite file; all suites by default.")] = None,
    show: Annotated[
        str | None, typer.Option(metavar="TASK", help="Show rows of this task as the model will see them.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the rows that `--show` shows.")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder whose pieces `--show` shows.")] = ENCODER,
) -> None:
    """List the tasks of suites with their kinds, languages, rows per split and licences.

    With `--show`, print the first rows of a task as they are encoded: the pieces, the tags beside the pieces that carry
    them, and answers in their context.
    """
    if show:
        if suite is None:
            raise DataError("--show: name the suite of the task with --suite.")
        loaded, folder = load_suite(suite)
        rows = Rows(loaded, folder, _writable_cache())
        console().print(rows_view(rows, show, language, Encoder(name=encoder)))
        return
    for name in [suite] if suite else named_suites():
        loaded, folder = load_suite(name)
        console().print(suite_table(loaded, Rows(loaded, folder, _writable_cache())))


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Option(help="Folder of predictions with a folder per task: `xnli/test-de.tsv`.")
    ],
    labels: Annotated[Path, typer.Option(help="Folder of labels with the same layout.")],
    suite: Annotated[Literal["xtreme"], typer.Option(help="The benchmark.")] = "xtreme",
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write all scores to, including those per language.")
    ] = None,
) -> None:
    """Score predictions with the files, metrics and averages of a benchmark."""
    scores = score_folders(predictions, labels)
    if out:
        write_whole(out, json.dumps(scores, indent=2) + "\n")
    output = console()
    output.print(scores_view(scores))
    for line in remarks(predictions, labels):
        output.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option(help="Output folder; must be new or empty.")],
    format_: Annotated[
        Literal["transformers", "xtreme", "replay"],
        typer.Option(
            "--format",
            help="`transformers`: the trained models, one folder per target, with a model card. `xtreme`: test "
            "predictions in the benchmark's submission format. `replay`: a space file that trains the chain again.",
        ),
    ],
    trial: TrialOption = None,
    target: Annotated[
        str | None,
        typer.Option(help="Take the winner of this target instead; `transformers` then writes this target alone."),
    ] = None,
    store: SearchStoreOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="xtreme: output folder for the labels, which `score` reads; must be new or empty."),
    ] = None,
) -> None:
    """Export the models or predictions of a trial of STUDY.

    `transformers` exports the models from the stage store. They load with transformers alone: encoder and head together
    where transformers has a matching class; otherwise the head is a file beside the encoder, and the model card shows
    how to apply it. The other formats read only the study folder. `xtreme` skips tasks that were not evaluated in all
    languages of the benchmark, and lists them.
    """
    if store and format_ != "transformers":
        raise StudyError("--store: only for --format transformers; the other formats do not read the stage store.")
    if labels and format_ != "xtreme":
        raise StudyError("--labels: only for --format xtreme.")
    if target and trial is not None:
        raise StudyError("--target: it names the trial that won this target; leave --trial out.")
    folder = StudyFolder(study)
    if target:
        trial = find_trial(folder, None, target).trial.number
    if format_ == "transformers":
        from tunexfer.export.models import export_transformers

        number, exported = export_transformers(folder, trial, to, open_store(store), cache=cache_folder(), only=target)
        print(f"trial {number} of {folder.name}, described in {to / 'README.md'}")
        for own in exported:
            print(f"{to / own.target}: {own.loads_with}{', head in a separate file' * own.head_apart}")
    elif format_ == "xtreme":
        number, written, notes = export_xtreme(folder, trial, to, labels)
        print("\n".join([f"trial {number} of {folder.name}: {', '.join(written)}", *notes]))
    else:
        print(f"`tunexfer search {export_replay(folder, trial, to)} --store NEW_FOLDER` trains the chain again")


@app.command()
def report(
    study: Annotated[list[Path], typer.Argument(help="Study folders, for example `runs/multitask`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder; by default that of the study, or the current one for several studies."),
    ] = None,
) -> None:
    """Write a report on one or more studies as an HTML page, `report.html`.

    The page is self-contained; tables (CSV) and figures (SVG, PNG) are in `report_files` beside it. Only the study
    folders are read. A study may still be running or be damaged: the top of the page lists what is missing.
    """
    from tunexfer.report.answer import answer
    from tunexfer.report.page import write_report
    from tunexfer.report.study import Study, with_distinct_names

    studies = with_distinct_names([Study.load(folder) for folder in study])
    to = out or (study[0] if len(study) == 1 else Path())
    try:
        page = write_report(studies, to)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise StudyError(
            f"{to}: the report can't be written there ({error.strerror}). Choose another folder with --out."
        ) from error
    for loaded in studies:
        for line in (loaded.status(), *loaded.problems, *answer(loaded)):
            print(line)
    print(page)


@app.command()
def compare(
    study_a: Annotated[Path, typer.Argument(metavar="STUDY", help="Study folder, for example `runs/multitask`.")],
    study_b: Annotated[Path, typer.Argument(metavar="STUDY", help="Another study folder, or the same one.")],
    trial_a: Annotated[int | None, typer.Option(help="Trial number in the first study; its best by default.")] = None,
    trial_b: Annotated[int | None, typer.Option(help="Trial number in the second study; its best by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write the tables to.")] = None,
) -> None:
    """Compare a trial of one STUDY with a trial of another, with paired tests over the rows that both predicted.

    Rows that only one trial predicted are left out and counted; differences between the two plans are listed. Confirmed
    chains are compared over the seeds that both were confirmed with.
    """
    from tunexfer.report.compare import compare_studies, view
    from tunexfer.report.study import Study

    compared = compare_studies(Study.load(study_a), Study.load(study_b), trial_a, trial_b)
    if out:
        write_whole(out, compared.table().to_csv(index=False, lineterminator="\n"))
    console().print(view(compared))


@app.command()
def search(
    space: SpaceArgument,
    trials: TrialsOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; that of the space by default.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of studies; each gets a folder of its own.")] = Path("runs"),
    store: StoreOption = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="MLFLOW_TRACKING_URI", help="MLflow tracking URI; a SQLite file in the runs folder by default."
        ),
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of jobs at once, one per device; as many as fit by default."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a running Ray cluster; `auto` finds one on this machine.")
    ] = None,
    seed: SeedOption = None,
    set_: SetOption = [],  # noqa: B006  typer copies it
    quiet: Annotated[bool, typer.Option("--quiet", help="Suppress progress output.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on standard output.")] = False,
) -> None:
    """Run the search that SPACE describes, or resume it.

    Every trial runs its whole chain; stages that chains have in common are trained once. Ctrl-C stops cleanly. Rerun
    the same command to resume and to retry failed trials; a larger `--trials` extends the search. Exit codes: 0
    finished, 2 a mistake in the arguments or the space, 130 interrupted.
    """
    if name is not None and (problem := name_problem(name)):
        raise StudyError(f"--name: {problem}")
    loaded = load_plan(space, set_, trials, seed)
    folder = _writable(runs.absolute() / (name or loaded.name), "Name another folder with --runs.")
    uri = tracking_uri or f"sqlite:///{folder.parent / 'mlflow.db'}"
    findings, end = launch(
        loaded, StudyFolder(folder), console(stderr=True), cache=cache_folder(), store=store_location(store),
        tracking_uri=uri, concurrent=concurrent, address=address, quiet=quiet,
    )  # fmt: skip
    if json_:
        about = {"study": folder.name, "folder": str(folder), "state": end.state, "seconds": round(end.seconds, 1)}
        print(json.dumps(about | findings.as_dict(), indent=2, ensure_ascii=False), flush=True)
    else:
        show_summary(findings, console(), folder=folder, state=end.state, seconds=end.seconds)
    if end.state == "interrupted":
        raise typer.Exit(130)


@app.command()
def watch(study: StudyArgument) -> None:
    """Show the live table of STUDY while another process runs its search.

    Only the study folder is read. Ctrl-C stops watching; the search continues. If no search is running, the current
    state of the study is shown.
    """
    folder = open_study(study)
    try:
        table = watch_study(folder, console())
    except KeyboardInterrupt:
        print(f"Stopped watching {folder.name}. The search continues.", file=sys.stderr)
        raise typer.Exit(130) from None
    print(table.ending)


@app.command()
def register(
    study: StudyArgument,
    name: Annotated[str, typer.Argument(help="Name of the model in MLflow's registry.")],
    trial: TrialOption = None,
    store: SearchStoreOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Log the models of a trial of STUDY in MLflow, and register them as NAME.

    Models are logged with the run of the trial, in MLflow's transformers flavour, with weights as safetensors. Of
    several targets, each gets a model of its own, NAME-TARGET. What is registered already is kept.
    """
    settle()
    from tunexfer.export.registry import register_models

    folder = open_study(study)
    uri, stages = find_uri(folder, tracking_uri), open_store(store)
    for target, model in register_models(folder, trial, name, uri, stages, cache=cache_folder()).items():
        print(f"{target}: registered in MLflow as {model}")


@app.command()
def ui(
    study: StudyArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of `mlflow ui`.")] = 5000,
    tracking_uri: TrackingOption = None,
) -> None:
    """Open MLflow on STUDY: print the address of its experiment, and run `mlflow ui` until Ctrl-C.

    It listens on 127.0.0.1 alone and shows every study of the same store. For a study that is mirrored in an MLflow
    server, only the address is printed.
    """
    folder = open_study(study)
    uri = find_uri(folder, tracking_uri)
    settle()
    address = uri.rstrip("/") if is_remote(uri) else f"http://127.0.0.1:{port}"
    print(f"{without_passwords(address)}/#/experiments/{find_experiment(folder, uri)}", flush=True)
    if not is_remote(uri):
        command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
        shown = [*command, "--backend-store-uri", without_passwords(uri)]
        print(f"Running `{shlex.join(shown)}`; Ctrl-C ends it.", file=sys.stderr, flush=True)
        # The URI goes through the environment: every user of a machine sees the options of its processes.
        os.execve(sys.executable, [sys.executable, "-m", *command], os.environ | {"MLFLOW_BACKEND_STORE_URI": uri})


def open_study(path: Path) -> StudyFolder:
    """raises: StudyError, if that is no folder of a study"""
    folder = StudyFolder(path.resolve())
    read_plan(folder)
    return folder


def load_plan(space: str, set_: list[str], trials: int | None, seed: int | None) -> Plan:
    """Load the plan of a space file with the options' values in it, and report where a shipped space is used."""
    overrides = {}
    for setting in set_:
        path, equals, value = setting.partition("=")
        if not equals:
            raise SpaceError(f"--set {setting}: write path=value, for example stages[0].steps=20")
        overrides[path.strip()] = value
    if trials is not None:
        overrides["search.trials"] = str(trials)
    file = find_space(space)
    if not Path(space).is_file():
        print(f"{space}: using the shipped space {file}", file=sys.stderr)
    return Plan.load(file, overrides, cache=_writable_cache(), seed=seed)


def store_location(store: str | None) -> str:
    """The stage store as an absolute path or a URL; `stages` in the cache by default."""
    if store is None:
        return str(cache_folder() / "stages")
    return store if "://" in store else str(Path(store).absolute())


def open_store(store: str | None) -> StageStore:
    return StageStore(store_location(store), copies=cache_folder() / "store")
