"""Effects of the choices on the objective: least squares over distinct stages; in large studies importances too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
import statsmodels.api as sm
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.trial import TrialResult
from tunexfer.report.figures import BLUE, INK, WIDTH, new_figure, styled
from tunexfer.report.section import Section
from tunexfer.report.study import Study

LARGE = 100
"""Trials from which on importances are estimated: PED-ANOVA has hardly any power below."""
LEAST_TRIALS = 10
"""Coordinates that fewer trials drew get no importance."""
LEAST_FREE = 3
"""Degrees of freedom that a comparison within stages takes; with fewer its error is hardly known."""
SIGNIFICANT = 0.05
MOST_ROWS = 20
NO_STAGE = "no stage"
_NUMBER = "#"
"""The option of a choice that is a number."""
_ZERO = 1e-9

EFFECTS, IMPORTANCES = "Effect of each choice", "Importance of each choice"


def section(studies: Sequence[Study]) -> Section | None:
    """Estimate effects in each study by itself; None where no search has complete trials that differ."""
    words, tables = list[str](), dict[str, list[pd.DataFrame]]()
    figures, alts = dict[str, Figure](), dict[str, str]()
    for study in studies:
        complete = [ended for ended in study.ended if ended.state == "complete" and ended.objective is not None]
        trials = [ended for ended in complete if ended.trial.phase != "confirm"]
        choices = design({ended.trial.number: ended.trial.chain for ended in trials})
        if choices.empty:
            continue
        suffix = f" ({study.name})" if len(studies) > 1 else ""
        prefixes = _prefixes(trials)
        table = effects(choices, pd.Series({ended.trial.number: ended.objective for ended in trials}), prefixes)
        name = f"{study.name}: " if len(studies) > 1 else ""
        words += [name + sentence for sentence in _words(study, table, prefixes)]
        tables.setdefault(EFFECTS, []).append(table.assign(study=study.name))
        if table["effect"].notna().any():
            figures[EFFECTS + suffix], alts[EFFECTS + suffix] = draw_effects(table), _alt(table)
        if len(trials) >= LARGE:
            rebuilt = optuna_study(trials, study.plan.get("coordinates") or {})
            ranked = importances(rebuilt)
            tables.setdefault(IMPORTANCES, []).append(ranked.assign(study=study.name))
            figures[IMPORTANCES + suffix] = _draw_importances(rebuilt, ranked)
            highest = ", ".join(f"{row.coordinate} {row.importance:.0%}" for row in ranked.head(3).itertuples())
            alts[IMPORTANCES + suffix] = f"Bars of the importance of each coordinate. Highest: {highest}."
            words.append(f"{name}Highest importances (PED-ANOVA by Optuna, shares of 100 %): {highest}.")
    if not tables:
        return None
    joined = {title: pd.concat(parts, ignore_index=True) for title, parts in tables.items()}
    return Section(
        key="choices",
        title="What mattered",
        words=tuple(words),
        tables={title: table[["study", *table.columns.drop("study")]] for title, table in joined.items()},
        figures=figures,
        alts=alts,
        shaded={EFFECTS: ["effect"]},
    )


def _prefixes(trials: Sequence[TrialResult]) -> pd.Series[int]:
    """Number the encoders with their stages; trials that share them have the same number."""
    numbers: dict[tuple[Any, ...], int] = {}
    keys = {ended.trial.number: (ended.trial.chain.encoder, ended.trial.chain.stages) for ended in trials}
    return pd.Series({trial: numbers.setdefault(key, len(numbers)) for trial, key in keys.items()})


def design(chains: Mapping[int, Chain]) -> pd.DataFrame:
    """Code what varies among chains as numbers, one row a chain, one column an effect.

    returns: columns (choice, option, compared_with). A task or language has its share of the stage's rows, in [0, 1];
        a number is 0 at the lowest and 1 at the highest value, logarithmic where all are above 0, and at the mean in
        chains that don't have it.
    """
    rows = [(trial, *part) for trial, chain in chains.items() for part in _parts(chain)]
    amounts = pd.DataFrame(rows, columns=["trial", "choice", "option", "amount"])
    wide = amounts.groupby(["trial", "choice", "option"], sort=False)["amount"].sum().unstack(["choice", "option"])
    columns: dict[tuple[str, str, str], pd.Series[float]] = {}
    for choice in dict.fromkeys(amounts["choice"]):
        part = wide[choice]
        if _NUMBER in part.columns:
            low, high = part[_NUMBER].min(), part[_NUMBER].max()
            values = np.log(part[_NUMBER]) if low > 0 else part[_NUMBER]
            scaled = (values - values.min()) / ((values.max() - values.min()) or 1.0)
            columns[choice, f"{high:g}", f"{low:g}"] = scaled.fillna(scaled.mean())
            continue
        part = part.fillna(0.0)
        optional = choice.startswith("task of ") and (part.sum(axis=1) < _ZERO).any()
        reference = NO_STAGE if optional else str(part.sum().idxmax())
        columns |= {(choice, str(option), reference): part[option] for option in part.columns if option != reference}
    varied = {name: values for name, values in columns.items() if values.max() - values.min() > _ZERO}
    names = pd.MultiIndex.from_tuples(varied or [("", "", "")], names=["choice", "option", "compared_with"])
    values = np.column_stack([np.empty((len(chains), 0)), *varied.values()])
    return pd.DataFrame(values, index=pd.Index(chains, name="trial"), columns=names[: len(varied)])


def _parts(chain: Chain) -> Iterator[tuple[str, str, float]]:
    """Yield choice, option and amount of everything that a search may vary."""
    yield "encoder", f"{chain.encoder.identity}, {chain.encoder.pooling}", 1.0
    for stage in chain.stages:
        for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True):
            yield f"task of {stage.name}", source.task, share
            yield f"language of {stage.name}", source.language, share
        yield from _settings(stage)
    for target in chain.targets:
        yield f"start of {target.name}", target.after or "the stages", 1.0
        yield f"layer of {target.name}", "last" if target.layer is None else str(target.layer), 1.0
        if target.stage:
            yield f"train language of {target.name}", str(target.train_language), 1.0
            yield from _settings(target.stage)


def _settings(stage: Stage) -> Iterator[tuple[str, str, float]]:
    values = {"learning rate": stage.learning_rate, "steps": stage.steps, "batch size": stage.batch_size}
    for name, value in (values | dict(stage.training)).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        option, amount = (_NUMBER, float(value)) if number else (str(value), 1.0)
        yield f"{name} of {stage.name}", option, amount


def effects(choices: pd.DataFrame, objective: pd.Series[float], prefixes: pd.Series[int]) -> pd.DataFrame:
    """Estimate the effect of every choice by least squares, with distinct stages as units.

    choices:   shape (T, C), as `design` makes it; objective, prefixes: shape (T,)
    returns:   one row an effect: choice, option, compared_with; effect, low, high (95 % interval), points; p, p_holm
        (corrected over all effects); units; inseparable_from. NaN where it can't be separated from others.

    A split-plot analysis: choices that vary among trials with the same stages are estimated within them, the others
    between the means of distinct stages, whose noise is that of training the stages too.
    Source: Cochran and Cox 1957, Experimental Designs, chapter 7.
    """
    within = choices - choices.groupby(prefixes).transform("mean")
    inner, units = within.abs().max() > _ZERO, prefixes.nunique()
    inner &= len(choices) - units - int(inner.sum()) >= LEAST_FREE
    level = objective.groupby(prefixes).transform("mean")
    coefficients, table = _least_squares(within.loc[:, inner], objective - level, spent=units)
    rest = (objective - choices.loc[:, inner] @ coefficients).groupby(prefixes).mean()
    means = choices.loc[:, ~inner].groupby(prefixes).mean()
    _, between = _least_squares(means - means.mean(), rest - rest.mean(), spent=1)
    estimates = pd.concat([table.assign(units=len(choices)), between.assign(units=units)]).loc[choices.columns]
    known = estimates["p"].notna()
    corrected = multipletests(estimates.loc[known, "p"], method="holm")[1] if known.any() else []
    estimates.insert(
        4, "p_holm", pd.Series(corrected, index=estimates.index[known], dtype=float).reindex(estimates.index)
    )
    return estimates.reset_index()


def _least_squares(x: pd.DataFrame, y: pd.Series[float], spent: int) -> tuple[Any, pd.DataFrame]:
    """Fit y = x b, both centred, where x need not have full rank.

    spent:    degrees of freedom used up by centring
    returns:  coefficients of least norm, shape (C,), and one row a column of x
    """
    table = pd.DataFrame({"effect": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}, index=x.columns)
    if not len(x.columns):
        return np.empty(0), table.assign(inseparable_from="")
    # A coefficient is determined if no vector of the null space moves it; those that one vector moves are inseparable.
    sizes, vectors = np.linalg.eigh(x.to_numpy().T @ x.to_numpy())
    null = vectors[:, sizes < 1e-10 * sizes.max()]
    tied = np.abs(null @ null.T) > 1e-6
    model = sm.OLS(y.to_numpy(), x.to_numpy())
    model.df_resid -= spent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)  # `inseparable_from` says so
        fit = model.fit()
    alone = ~np.diag(tied)
    table.loc[alone, "effect"] = fit.params[alone]
    if model.df_resid > 0 and fit.ssr > _ZERO:
        table.loc[alone, ["low", "high"]] = fit.conf_int()[alone]
        table.loc[alone, "p"] = fit.pvalues[alone]
    names = pd.Series([f"{column[1]} ({column[0]})" for column in x.columns])
    others = tied & ~np.eye(len(tied), dtype=bool)
    return fit.params, table.assign(inseparable_from=[", ".join(names[row]) for row in others])


def _words(study: Study, table: pd.DataFrame, prefixes: pd.Series[int]) -> Iterator[str]:
    how = " ".join(f"{key}={value}" for key, value in study.objective.items())
    yield (
        f"Least squares of the objective ({how}) on the choices of {len(prefixes)} trials with {prefixes.nunique()} "
        "different sequences of stages. Trials with the same stages count once; what varies among them, such as a "
        "target's learning rate, is compared within them. Effects are in points: of a task or language with all of the "
        "stage's rows, of a number from the lowest to the highest value. p_holm is corrected over all effects. The "
        "model has no interactions, and a sampler returns to what looks promising: read effects as hints."
    )
    clear = [
        f"{_name(row)} {row['effect']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
        for _, row in table[table["p_holm"] < SIGNIFICANT].sort_values("p").iterrows()
    ]
    yield f"Significant after correction: {'; '.join(clear) or 'none'}."
    tied = [_name(row) for _, row in table[table["effect"].isna()].iterrows()]
    if tied:
        more = f" and {len(tied) - MOST_ROWS} more" if len(tied) > MOST_ROWS else ""
        yield (
            f"{len(tied)} of {len(table)} effects cannot be separated, as their options occur in the same trials or "
            f"too few different stages were trained: {', '.join(tied[:MOST_ROWS])}{more}."
        )


def _name(row: Any) -> str:
    return f"{row['choice']}: {row['option']} vs {row['compared_with']}"


def _alt(table: pd.DataFrame) -> str:
    shown = table[table["effect"].notna()].sort_values("effect")
    ends = [f"{_name(row)}, {row['effect']:+.2f} points" for row in (shown.iloc[-1], shown.iloc[0])]
    return f"Effects on the objective with 95 % intervals. Highest: {ends[0]}. Lowest: {ends[1]}."


@styled
def draw_effects(table: pd.DataFrame) -> Figure:
    """Draw the largest effects with their intervals; filled where they are significant after correction."""
    known = table[table["effect"].notna()]
    shown = known.loc[known["effect"].abs().sort_values(ascending=False).index[:MOST_ROWS]].sort_values("effect")
    figure = new_figure(WIDTH, 0.9 + 0.24 * len(shown))
    axes = figure.subplots()
    axes.axvline(0.0, color=INK, linewidth=0.6)
    places = np.arange(len(shown))
    axes.hlines(places, shown["low"], shown["high"], colors=BLUE, linewidth=1.2)
    faces = [BLUE if p < SIGNIFICANT else "none" for p in shown["p_holm"]]
    axes.scatter(shown["effect"], places, s=18, zorder=3, facecolors=faces, edgecolors=BLUE)
    left = f" (the {MOST_ROWS} largest of {len(known)})" if len(known) > MOST_ROWS else ""
    axes.set(xlabel=f"effect on the objective, points{left}", ylim=(-0.7, len(shown) - 0.3))
    axes.set_yticks(places, [_name(row) for _, row in shown.iterrows()])
    return figure


def optuna_study(trials: Sequence[TrialResult], coordinates: Mapping[str, str]) -> optuna.Study:
    """Rebuild the search as an Optuna study, without the baseline.

    coordinates: name -> its domain in words, as in `plan.yaml`
    """
    drawn = [ended for ended in trials if ended.trial.phase == "search"]
    points = pd.DataFrame([dict(ended.trial.point) for ended in drawn])
    varied = [name for name in points.columns if points[name].nunique() > 1]
    domains = {name: _distribution(points[name].dropna(), coordinates.get(name, "")) for name in varied}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for ended in drawn:
        params = {name: value for name, value in ended.trial.point.items() if name in domains}
        distributions = {name: domains[name] for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=ended.objective))
    return study


def _distribution(values: pd.Series[Any], domain: str) -> BaseDistribution:
    if not pd.api.types.is_numeric_dtype(values):
        return CategoricalDistribution(sorted(values.unique()))
    return FloatDistribution(float(values.min()), float(values.max()), log="log" in domain)


def importances(study: optuna.Study) -> pd.DataFrame:
    """Let Optuna estimate the importance of each coordinate, by PED-ANOVA (arXiv 2304.10255).

    returns: coordinate, importance (shares that sum to 1; NaN for fewer than `LEAST_TRIALS` trials), trials
    """
    trials = pd.Series([name for trial in study.trials for name in trial.params]).value_counts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of coordinates that hardly any trial lacks
        estimated = optuna.importance.get_param_importances(study, params=trials.index[trials >= LEAST_TRIALS].tolist())
    table = pd.DataFrame({"coordinate": trials.index, "importance": trials.index.map(estimated), "trials": trials})
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _draw_importances(study: optuna.Study, table: pd.DataFrame) -> Figure:
    """Let Optuna draw the bars; it draws with pyplot, whose state is put back."""
    from matplotlib import pyplot as plt

    estimated = table.loc[table["importance"].notna(), "coordinate"].tolist()
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # as in `importances`
        axes = optuna.visualization.matplotlib.plot_param_importances(study, params=estimated)
    figure = axes.get_figure(root=True)
    assert figure
    plt.close(figure)
    figure.set_size_inches(WIDTH, 0.9 + 0.24 * len(estimated))
    figure.set_layout_engine("constrained")
    return figure
