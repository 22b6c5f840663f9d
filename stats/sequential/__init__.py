"""Anytime-valid statistics of experiments, from counts alone: they may be looked at after every response.

`rates` holds the e-process and why it is valid; `intervals`, `power` read it; `sample_ratio_mismatch`, `quantiles`
are exact as well, `means` in the limit.
"""

from stats.sequential.counts import Count, Stratum
from stats.sequential.intervals import difference_interval, difference_lower_bound, rate_interval
from stats.sequential.means import Moments, mean_difference_interval, mean_interval
from stats.sequential.power import minimum_detectable, responses_needed
from stats.sequential.quantiles import quantile_interval
from stats.sequential.rates import log_e_value, log_e_value_at_least, log_e_value_at_most
from stats.sequential.sample_ratio_mismatch import split_log_e_value

__all__ = [
    "Count",
    "Moments",
    "Stratum",
    "difference_interval",
    "difference_lower_bound",
    "log_e_value",
    "log_e_value_at_least",
    "log_e_value_at_most",
    "mean_difference_interval",
    "mean_interval",
    "minimum_detectable",
    "quantile_interval",
    "rate_interval",
    "responses_needed",
    "split_log_e_value",
]
