"""Agreement of the model with readers and with the values that trials reported, by group."""
