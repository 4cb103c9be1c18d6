"""The run of `segment`: plan, workers, one scan's steps, result files, merged tables."""
