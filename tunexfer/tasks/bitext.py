"""Bitext mining: find the sentences of two collections that translate each other, by their vectors.

Ratio margin of Artetxe and Schwenk 2019, in the "max" form that XTREME scores BUCC with. X and Y are the numbers of
sentences of the two sides, W the width of their vectors, K the number of neighbours that the margin averages over.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

NEIGHBOURS = 4
X_BLOCK, Y_BLOCK = 1024, 2048
"""Sentences that are compared at once: a block of similarities takes 8 MB and fits the processor's cache."""

Vectors = NDArray[np.float32]


class _Neighbours(NamedTuple):
    similarity: Vectors
    """Inner products with the K nearest on the other side, highest first, shape (N, K)."""
    indices: NDArray[np.int64]
    """Indices of those neighbours, shape (N, K)."""


class _Mined(NamedTuple):
    """Pairs by falling score; no sentence occurs twice."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    score: NDArray[np.float64]


def mine(x: Vectors, y: Vectors, k: int = NEIGHBOURS) -> _Mined:
    """Find the pairs with a positive ratio margin, matched greedily from the highest down.

    x, y: shapes (X, W) and (Y, W), of length 1

    A pair's margin is its cosine over the mean cosine that both have with their K nearest. Where that mean is near or
    below zero the margin explodes or changes its sign, as in the benchmark.
    """
    forward, backward = nearest(x, y, k)
    x_mean, y_mean = forward.similarity.mean(axis=1), backward.similarity.mean(axis=1)
    x_best, x_score = _best(forward, x_mean, y_mean)
    y_best, y_score = _best(backward, y_mean, x_mean)
    xs = np.concatenate([np.arange(len(x)), y_best])
    ys = np.concatenate([x_best, np.arange(len(y))])
    scores = np.concatenate([x_score, y_score])
    chosen = _greedy(xs, ys, scores)
    return _Mined(xs[chosen], ys[chosen], scores[chosen])


def tune_threshold(scores: Sequence[float], right: Sequence[bool], gold: int) -> float:
    """Find the score to cut a list of pairs at for the highest F1: half way to the next score, or the last one.

    scores:  of pairs, highest first
    right:   whether each pair is gold
    gold:    number of gold pairs
    returns: the lowest score to keep; 0 if no pair is right
    """
    hits = np.cumsum(np.asarray(right, dtype=np.float64))
    if not len(hits) or not hits[-1]:
        return 0.0
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / gold
    with np.errstate(invalid="ignore"):
        f1 = np.where(hits > 0, 2 * precision * recall / (precision + recall), 0)
    cut = int(f1.argmax())
    return float(scores[cut] + scores[min(cut + 1, len(hits) - 1)]) / 2


def unify(sentences: Sequence[Hashable]) -> NDArray[np.int64]:
    """Find the positions of distinct sentences: the last of equal ones, in the order of their first occurrence."""
    return np.array(list({sentence: place for place, sentence in enumerate(sentences)}.values()), dtype=np.int64)


def unrepeated(sentences: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """Map each sentence that occurs once to its id; the text of a repeated one does not identify it."""
    counts: dict[str, int] = {}
    for sentence in sentences:
        counts[sentence] = counts.get(sentence, 0) + 1
    return {sentence: name for sentence, name in zip(sentences, ids, strict=True) if counts[sentence] == 1}


def nearest(x: Vectors, y: Vectors, k: int = NEIGHBOURS) -> tuple[_Neighbours, _Neighbours]:
    """Find each sentence's K nearest on the other side, exactly, both ways in one pass over the similarities.

    As many threads as the matrix product may use multiply and search blocks of their own. Ties go to the sentence with
    the lower index, whatever the order of the threads.

    returns: the neighbours of x in y and of y in x; fewer than K if the other side has fewer
    """
    of_x, of_y = _Best(len(x), min(k, len(y))), _Best(len(y), min(k, len(x)))
    places = range(0, len(y), Y_BLOCK)
    turns = [Lock() for _ in places]

    def compare(x_start: int) -> None:
        """Compare a block of x with all of y."""
        x_block, buffer = x[x_start : x_start + X_BLOCK], np.empty((X_BLOCK, Y_BLOCK), dtype=np.float32)
        for y_start, turn in zip(places, turns, strict=True):
            y_block = y[y_start : y_start + Y_BLOCK]
            block = np.matmul(x_block, y_block.T, out=buffer[: len(x_block), : len(y_block)])
            of_x.offer(block, 0, x_start, y_start)
            with turn:
                of_y.offer(block, 1, y_start, x_start)

    product = ThreadpoolController().select(user_api="blas")
    threads = max((library["num_threads"] for library in product.info()), default=1)
    with product.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(compare, range(0, len(x), X_BLOCK)))
    return _Neighbours(of_x.similarity, of_x.indices), _Neighbours(of_y.similarity, of_y.indices)


class _Best:
    """The K highest similarities seen so far of each of N sentences, highest first."""

    def __init__(self, count: int, k: int) -> None:
        self.k = k
        self.similarity = np.full((count, k), -np.inf, dtype=np.float32)
        self.indices = np.zeros((count, k), dtype=np.int64)

    def offer(self, block: Vectors, axis: int, start: int, other: int) -> None:
        """Merge a block of similarities, skipping sentences whose maximum there is below their K-th best.

        axis: the axis of our sentences, which begin at index `start`; the other side's begin at `other`
        """
        across = 1 - axis
        floor = self.similarity[start : start + block.shape[axis], -1]
        better = np.flatnonzero(block.max(axis=across) >= floor)
        if not len(better):
            return
        rest, floor = block.take(better, axis=axis), floor[better]
        if np.isneginf(floor).any():  # the first block: nearly everything would be a candidate
            last = min(self.k, block.shape[across])
            floor = np.maximum(floor, np.partition(rest, -last, axis=across).take(-last, axis=across))
        candidates = np.unravel_index(np.flatnonzero(rest >= np.expand_dims(floor, across)), rest.shape)
        self._merge(start + better, candidates[axis], other + candidates[across], rest[candidates])

    def _merge(
        self, ours: NDArray[np.int64], place: NDArray[np.int64], theirs: NDArray[np.int64], similarity: Vectors
    ) -> None:
        """Keep the K best of those so far and the candidates.

        ours: the sentences concerned; place: for each candidate, the position of its sentence in `ours`
        """
        place = np.concatenate([np.repeat(np.arange(len(ours)), self.k), place])
        theirs = np.concatenate([self.indices[ours].ravel(), theirs])
        similarity = np.concatenate([self.similarity[ours].ravel(), similarity])
        order = np.lexsort((theirs, -similarity, place))
        begins = np.searchsorted(place[order], np.arange(len(ours)))
        best = order[begins[:, None] + np.arange(self.k)]
        self.similarity[ours], self.indices[ours] = similarity[best], theirs[best]


def _best(neighbours: _Neighbours, mean: Vectors, other_mean: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find each sentence's neighbour with the highest ratio margin, and that margin."""
    around = (mean[:, None] + other_mean[neighbours.indices]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.nan_to_num(neighbours.similarity / around, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    best = margins.argmax(axis=1)[:, None]
    margin = np.take_along_axis(margins, best, axis=1)[:, 0].astype(np.float64)
    return np.take_along_axis(neighbours.indices, best, axis=1)[:, 0], margin


def _greedy(xs: NDArray[np.int64], ys: NDArray[np.int64], scores: NDArray[np.float64]) -> list[int]:
    """Choose pairs from the highest score down to 0, each sentence once."""
    order = np.argsort(-scores, kind="stable")
    seen_x, seen_y = np.zeros(xs.max() + 1, dtype=bool), np.zeros(ys.max() + 1, dtype=bool)
    chosen = []
    for pair, x, y in zip(order[scores[order] > 0].tolist(), xs[order].tolist(), ys[order].tolist(), strict=False):
        if not seen_x[x] and not seen_y[y]:
            seen_x[x] = seen_y[y] = True
            chosen.append(pair)
    return chosen
