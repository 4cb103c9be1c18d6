"""One-stage Gaussian mixed models from sufficient statistics."""
