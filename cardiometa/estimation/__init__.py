"""What reference and pooling share: per-trial sums, tau² solvers, quantiles of ranks."""
