"""From a table of scans to one row per participant: outcome, baseline, arm, analysis set."""
