"""Training of the segmentation network from one packed file of slices.

Everything here imports numpy, torch and safetensors alone: one packed file and this folder (with
``network.py`` above it) train on any machine. Run ``python -m cardiometa.segmentation.training``.
"""
