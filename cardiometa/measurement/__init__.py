"""LabelStack → numbers: the table of measures, phases, volumes, indexing, quality."""
