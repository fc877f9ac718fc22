"""The command line: read, validate, call. Everything it says on the way goes to standard error."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tunexfer.cli.tables import console, plan_view, scores_view, suite_table
from tunexfer.core.files import StudyFolder
from tunexfer.errors import SpaceError, StudyError, TunexferError
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import find_space

app = typer.Typer(
    help="Search over intermediate-task chains for zero-shot cross-lingual transfer.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

SpaceArgument = Annotated[str, typer.Argument(help="A space file, or the name of a shipped one (multitask).")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set any value of the space, for example `--set stages[0].steps=20`. The value is YAML. Repeatable.",
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the search and of every stage.")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Finished trials wanted, the baseline included.")]
StoreOption = Annotated[
    str | None,
    typer.Option(help="Where trained stages are kept and found again: a folder or a URL that fsspec opens."),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow's tracking URI; by default what the search was told, else a SQLite file in the runs folder."
    ),
]
NotifyOption = Annotated[
    str | None,
    typer.Option(
        metavar="CMD",
        help="Shell command to run when the study ends, however it ends. It finds `TUNEXFER_STUDY`, `TUNEXFER_STATE` "
        "and more in its environment: `--notify 'notify-send \"$TUNEXFER_STUDY: $TUNEXFER_STATE\"'`.",
    ),
]


def main() -> None:
    """The `tunexfer` command: errors of a user's making end it with one message and exit code 2."""
    try:
        app()
    except TunexferError as error:
        for line in str(error).splitlines():
            print(line, file=sys.stderr)
        sys.exit(2)


def cache_folder() -> Path:
    """Where built suites, encoders and encoded rows are kept: `TUNEXFER_CACHE`, else below the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunexfer"
    return Path(os.environ.get("TUNEXFER_CACHE") or default).absolute()


@app.command()
def plan(
    space: SpaceArgument,
    set_: SetOption = [],  # noqa: B006  typer copies it
    trials: TrialsOption = None,
    seed: SeedOption = None,
    store: StoreOption = None,
) -> None:
    """Show all that a search of SPACE would do, without training anything.

    Every option of every choice and both ends of every range are checked, so a mistake shows now.
    """
    made = load_plan(space, set_, trials, seed)
    from tunexfer.plan.cost import estimate

    console().print(plan_view(made, estimate(made, cache_folder(), store_place(store))))


@app.command()
def tasks(
    suite: Annotated[str | None, typer.Option(help="Name of a suite, or a suite file. Default: all named.")] = None,
) -> None:
    """List the tasks of suites: kinds, languages, rows per split, licences."""
    from tunexfer.data.rows import Rows
    from tunexfer.tasks.suite import load_suite, named_suites

    for name in [suite] if suite else named_suites():
        loaded, folder = load_suite(name)
        console().print(suite_table(loaded, Rows(loaded, folder, cache_folder())))


@app.command()
def score(
    predictions: Annotated[Path, typer.Option(help="Folder with a folder per task: `xnli/test-de.tsv`.")],
    labels: Annotated[Path, typer.Option(help="Folder of the same shape that holds the labels.")],
    suite: Annotated[Literal["xtreme"], typer.Option(help="Whose files, metrics and means.")] = "xtreme",
    out: Annotated[Path | None, typer.Option(help="JSON file for every score, per language too.")] = None,
) -> None:
    """Score folders of predictions exactly as a benchmark does."""
    from tunexfer.core.files import write_whole
    from tunexfer.export.xtreme_scores import remarks, score_folders

    scores = score_folders(predictions, labels)
    if out:
        write_whole(out, json.dumps(scores, indent=2) + "\n")
    said = console()
    said.print(scores_view(scores))
    for line in remarks(predictions, labels):
        said.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="Folder of a study: `runs/multitask`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; what it holds already is never overwritten.")],
    format_: Annotated[
        Literal["transformers", "xtreme", "replay"],
        typer.Option(
            "--format",
            help="`transformers`: the trained models, a folder per target, with a model card. `xtreme`: test "
            "predictions, as that benchmark's leaderboard takes them. `replay`: a space that trains the chain again.",
        ),
    ],
    trial: Annotated[int | None, typer.Option(help="Number of a trial; the best one by default.")] = None,
    store: Annotated[
        str | None, typer.Option(help="transformers: where the search kept its trained stages, if it was told to.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="xtreme: folder to make for the labels, which `score` compares the predictions with."),
    ] = None,
) -> None:
    """Take what a trial of STUDY found home.

    `transformers` takes the models from the stage store. They load with `AutoModel...from_pretrained`, without
    tunexfer: encoder and head in one where transformers has a class that computes the same. Else the head lies beside
    the encoder, and the model card has the lines that apply it. The other formats read the study folder alone. `xtreme`
    leaves out, and says so, what the trial wasn't scored on in each of the benchmark's languages.
    """
    if store and format_ != "transformers":
        raise StudyError("--store: only --format transformers reads the stage store.")
    if labels and format_ != "xtreme":
        raise StudyError("--labels: only --format xtreme writes labels.")
    folder = StudyFolder(study)
    if format_ == "transformers":
        _export_models(folder, trial, to, store)
    elif format_ == "xtreme":
        _export_predictions(folder, trial, to, labels)
    else:
        from tunexfer.export.replay import export_replay

        print(f"`tunexfer search {export_replay(folder, trial, to)} --store NEW_FOLDER` trains the chain again")


def _export_models(study: StudyFolder, trial: int | None, to: Path, store: str | None) -> None:
    from tunexfer.export.models import export_transformers
    from tunexfer.store import StageStore

    cache = cache_folder()
    stages = StageStore(store_place(store), copies=cache / "store")
    done = export_transformers(study, trial, to, stages, cache=cache)
    print(f"trial {done.trial} of {study.name}, described in {to / 'README.md'}")
    for folder in done.folders:
        print(f"{to / folder.target}: {folder.loads_with}{', head apart' if folder.head_apart else ''}")


def _export_predictions(study: StudyFolder, trial: int | None, to: Path, labels: Path | None) -> None:
    from tunexfer.export.trial import empty_folder, find_trial
    from tunexfer.export.xtreme import export_xtreme

    ended = find_trial(study, trial)
    empty_folder(to, "--to")
    if labels:
        if labels.absolute() == to.absolute():
            raise StudyError("--labels: the labels need another folder than the predictions (--to).")
        empty_folder(labels, "--labels")
    found = export_xtreme(study.trial(ended.trial.number), ended.trial.chain, to, labels)
    print(f"trial {ended.trial.number} of {study.name}: {', '.join(found.written)}")
    for line in found.remarks:
        print(line)


@app.command()
def report(
    study: Annotated[list[Path], typer.Argument(help="Folders of studies: `runs/multitask`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; by default the study's own, or this one for several studies."),
    ] = None,
) -> None:
    """Write what studies found as one page, `report.html`.

    The page opens from disk and needs no network; its tables (CSV) and figures (SVG, PNG) lie beside it in
    `report_files`. Nothing but the study folders is read; a study may still be running, be killed or be damaged: what
    is missing is said at the top. Several studies are shown together.
    """
    from tunexfer.report.answer import answer
    from tunexfer.report.page import write_report
    from tunexfer.report.study import Study, named_apart

    studies = named_apart([Study.load(folder) for folder in study])
    to = out or (study[0] if len(study) == 1 else Path())
    try:
        page = write_report(studies, to)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise StudyError(
            f"{to}: the report can't be written there ({error.strerror}). Give a folder: --out."
        ) from error
    for one in studies:
        for line in (one.standing(), *one.problems, *answer(one)):
            print(line)
    print(page)


@app.command()
def compare(
    study_a: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study: `runs/multitask`.")],
    study_b: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of another, or the same one.")],
    trial_a: Annotated[int | None, typer.Option(help="Number of the first study's trial; its best by default.")] = None,
    trial_b: Annotated[int | None, typer.Option(help="Likewise of the second study.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for every number of the tables.")] = None,
) -> None:
    """Show a trial of one STUDY beside a trial of another, with paired tests over the rows that both were scored on.

    What only one was scored on, or on other rows, is left out and said; where the two plans differ is shown. Confirmed
    chains are compared by the seeds that both were confirmed with.
    """
    from tunexfer.core.files import write_whole
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
    name: Annotated[str | None, typer.Option(help="Name of the study; the space's own by default.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds a folder per study.")] = Path("runs"),
    store: StoreOption = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="MLFLOW_TRACKING_URI", help="MLflow's tracking URI; a SQLite file in the runs folder by default."
        ),
    ] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Trials at once; as many as fit by default.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of an existing Ray cluster (`auto` for the one of this machine).")
    ] = None,
    seed: SeedOption = None,
    set_: SetOption = [],  # noqa: B006  typer copies it
    notify: NotifyOption = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Register the best trial's models in MLflow at the end, as `tunexfer register` does."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on the way.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Run the search that SPACE describes, or go on with it.

    Every trial runs its whole chain; stages that chains share are trained once. Ctrl-C stops cleanly; the same command
    continues and runs failed trials again; a larger `--trials` extends. Exit code 0 for a finished study, 2 for a
    mistake, 130 after Ctrl-C.
    """
    made = load_plan(space, set_, trials, seed)
    from tunexfer.cli.launch import Places, launch
    from tunexfer.cli.notify import notifying
    from tunexfer.record.findings import show as show_summary

    runs = runs.absolute()
    uri = tracking_uri or f"sqlite:///{runs / 'mlflow.db'}"
    places = Places(runs=runs, cache=cache_folder(), store=store_place(store), tracking_uri=uri)
    said = console(stderr=True)
    name = name or made.name
    with notifying(notify, runs / name) as about:
        summary = launch(made, places, said, name=name, concurrent=concurrent, address=address, quiet=quiet)
        best = summary["objective"]["best"]
        about |= {"state": summary["state"], "best": "" if best is None else f"{best:.2f}"}
    if json_:
        print(json.dumps(summary, indent=2, ensure_ascii=False), flush=True)
    else:
        show_summary(summary, console())
    if summary["state"] == "interrupted":
        raise typer.Exit(130)
    if register and summary["best"]:
        try:
            lines = _registered(StudyFolder(runs / name), None, register, store, uri)
        except TunexferError as error:
            raise StudyError(
                f"The search has ended, but its models aren't registered: {error}\n"
                f"`tunexfer register {shlex.quote(str(runs / name))} {shlex.quote(register)}` tries that again."
            ) from error
        for line in lines:
            said.print(line, highlight=False, soft_wrap=True)


@app.command()
def watch(
    study: Annotated[Path, typer.Argument(help="Folder of a study: `runs/multitask`.")],
    notify: NotifyOption = None,
) -> None:
    """Show the live table of a study that another `tunexfer search` runs, until it ends.

    Nothing but the study folder is read. Ctrl-C ends the watching alone: the search goes on. Of a study that isn't
    running it shows how it stands.
    """
    from tunexfer.cli.notify import notify as run_notify
    from tunexfer.cli.watch import watch as watch_study
    from tunexfer.core.files import StudyFolder

    study = study.resolve()
    if not study.is_dir():
        raise StudyError(f"{study}: there is no such folder. Give the folder of a study, for example runs/multitask.")
    try:
        stands = watch_study(StudyFolder(study), console())
    except KeyboardInterrupt:
        print(f"{study.name} isn't watched any more; what runs there goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    print(stands.ending)
    best = "" if stands.best is None else f"{stands.best.objective:.2f}"
    reason = {"reason": stands.stand.reason} if stands.stand and stands.stand.reason else {}
    run_notify(notify, study, state=stands.state, best=best, **reason)


@app.command()
def register(
    study: Annotated[Path, typer.Argument(help="Folder of a study: `runs/multitask`.")],
    name: Annotated[str, typer.Argument(help="Name of the model in MLflow's registry.")],
    trial: Annotated[int | None, typer.Option(help="Number of a trial; the best one by default.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where the search kept its trained stages, if it was told to.")
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Log the trained models of a trial of STUDY in MLflow, and register them under NAME.

    They are logged with the trial's run in MLflow's transformers flavour: weights as safetensors, no pickles. Each
    target has a model of its own: of several, each is registered as NAME-<target>. What is there already is kept.
    """
    from tunexfer.mlflow.client import find_uri

    folder = StudyFolder(study.resolve())
    for line in _registered(folder, trial, name, store, find_uri(folder, tracking_uri)):
        print(line)


def _registered(study: StudyFolder, trial: int | None, name: str, store: str | None, uri: str) -> list[str]:
    from tunexfer.mlflow.client import settle

    settle()
    from tunexfer.export.registry import register_models
    from tunexfer.store import StageStore

    cache = cache_folder()
    stages = StageStore(store_place(store), copies=cache / "store")
    models = register_models(study, trial, name, uri, stages, cache=cache)
    return [f"{model.target}: registered in MLflow as {model.uri}" for model in models]


@app.command()
def ui(
    study: Annotated[Path, typer.Argument(help="Folder of a study: `runs/multitask`.")],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the server; 5000, or any free one, by default.")
    ] = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Open MLflow on STUDY: start its server on this machine and print where it compares the best trials.

    The server listens on 127.0.0.1 alone, shows every study of the same store, and ends with Ctrl-C. Where the study is
    mirrored in an MLflow server already, nothing is started: only the addresses are printed.
    """
    from tunexfer.mlflow.client import find_uri, settle
    from tunexfer.mlflow.pages import find_pages, said_of
    from tunexfer.mlflow.server import serving
    from tunexfer.record.record import read_plan

    folder = StudyFolder(study.resolve())
    if not folder.path.is_dir():
        raise StudyError(f"{study}: there is no such folder. Give the folder of a study, for example runs/multitask.")
    read_plan(folder)
    settle()
    uri = find_uri(folder, tracking_uri)
    if uri.startswith(("http:", "https:")):
        print(said_of(find_pages(uri.rstrip("/"), folder)))
        return
    print("Starting MLflow; Ctrl-C ends it.", file=sys.stderr)
    try:
        with serving(uri, folder.path.parent, port) as server:
            print(said_of(find_pages(server.address, folder)), flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("MLflow has ended.", file=sys.stderr)


def load_plan(space: str, set_: list[str], trials: int | None, seed: int | None) -> Plan:
    """The plan of a space file with the options' values in it; says so where the file is a shipped one."""
    overrides = {}
    for one in set_:
        path, equals, value = one.partition("=")
        if not equals:
            raise SpaceError(f"--set {one}: write path=value, for example stages[0].steps=20")
        overrides[path.strip()] = value
    if trials is not None:
        overrides["search.trials"] = str(trials)
    found = find_space(space)
    if not Path(space).is_file():
        print(f"{space}: no such file here; using the shipped space {found}", file=sys.stderr)
    return Plan.load(found, overrides, cache=cache_folder(), seed=seed)


def store_place(store: str | None) -> str:
    """A folder as an absolute path, or the URL; `stages` in the cache by default."""
    if store is None:
        return str(cache_folder() / "stages")
    return store if "://" in store else str(Path(store).absolute())
