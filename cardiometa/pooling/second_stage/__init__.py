"""The effects of all trials pooled, in two stages and in one."""
