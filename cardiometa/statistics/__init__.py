"""Statistical methods on arrays: meta-analysis, mixed models, regression, distributions."""
