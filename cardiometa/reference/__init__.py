"""Table → reference ranges: strata, limits, partition."""
