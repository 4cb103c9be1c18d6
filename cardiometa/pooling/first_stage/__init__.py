"""Each trial's own effect."""
