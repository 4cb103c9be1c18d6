"""CineStack → LabelStack: network, model (weights and card), predict, clean, training."""
