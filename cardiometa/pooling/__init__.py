"""Pooled treatment effects of randomised trials."""
