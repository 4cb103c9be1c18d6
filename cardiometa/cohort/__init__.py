"""What a pooled dataset is: cohort.toml, participants and coding, the joined table, the flow."""
