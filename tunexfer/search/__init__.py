"""The search. `ChainSampler` works alone, as a sampler of Optuna's."""

from tunexfer.search.optuna_chain import ChainSampler

__all__ = ["ChainSampler"]
