"""Effect modification: interactions within trials, and effects by level."""
