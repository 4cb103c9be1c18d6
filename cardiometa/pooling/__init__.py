"""Table → pooled treatment effects: each trial's model, then the second stage."""
