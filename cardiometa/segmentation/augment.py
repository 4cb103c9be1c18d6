"""Augmentation of one batch on the device: geometry, then the scanner, then intensity.

Wide on purpose: the multi-vendor challenge (M&Ms, Campello 2021, doi:10.1109/TMI.2021.3090082)
was decided by intensity augmentation, and sources come in any orientation.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from .training_data import Recipe


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=rng) * (high - low) + low


def sampling_grid(
    n: int, size: int, centres: torch.Tensor, recipe: Recipe, rng: torch.Generator
) -> torch.Tensor:
    """Grid ``[n, crop, crop, 2]`` into a ``size`` image, around ``centres`` ``[n, 2]`` (y, x)."""
    angle = torch.deg2rad(_uniform(n, -recipe.rotation_deg, recipe.rotation_deg, rng))
    angle = angle + math.pi / 2 * torch.randint(0, 4, (n,), generator=rng)
    scale = torch.exp(_uniform(n, -1, 1, rng) * math.log(1 + recipe.scale))
    aspect = torch.exp(_uniform(n, -0.08, 0.08, rng))
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    axis = torch.arange(recipe.crop, dtype=torch.float32) - (recipe.crop - 1) / 2
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    u = u[None] * (mirror * aspect)[:, None, None]
    v = v[None] / aspect[:, None, None]
    x = cos[:, None, None] * u - sin[:, None, None] * v
    y = sin[:, None, None] * u + cos[:, None, None] * v
    coarse = torch.randn(n, 2, 6, 6, generator=rng)
    strength = torch.rand(n, 1, 1, 1, generator=rng) * recipe.elastic_px
    bend = functional.interpolate(
        coarse * strength, size=(recipe.crop, recipe.crop), mode="bicubic", align_corners=True
    )
    x = x + bend[:, 0] + centres[:, 1, None, None]
    y = y + bend[:, 1] + centres[:, 0, None, None]
    half = (size - 1) / 2
    return torch.stack([x / half - 1, y / half - 1], dim=-1)


def _sometimes(n: int, share: float, rng: torch.Generator) -> torch.Tensor:
    return (torch.rand(n, 1, 1, 1, generator=rng) < share).float()


def _blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(3 * sigma))
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(x.device)
    channels = x.shape[1]
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    x = functional.conv2d(x, across, padding=(0, radius), groups=channels)
    return functional.conv2d(x, down, padding=(radius, 0), groups=channels)


def scanner(x: torch.Tensor, recipe: Recipe, rng: torch.Generator) -> torch.Tensor:
    """Coil sensitivity, blur, low resolution, ghosts and noise on images in 0 to 1."""
    n, _, size, _ = x.shape
    strength = _sometimes(n, 0.6, rng) * _uniform(n, 0.0, recipe.bias_field, rng).view(-1, 1, 1, 1)
    field = torch.randn(n, 1, 3, 3, generator=rng)
    smooth = functional.interpolate(field, size=(size, size), mode="bicubic", align_corners=True)
    x = x * torch.exp(strength * smooth)
    blurred = _blur(x, float(_uniform(1, 0.5, 1.4, rng)))
    mix = _sometimes(n, 0.3, rng)
    x = x * (1 - mix) + blurred * mix
    if float(torch.rand(1, generator=rng)) < 0.25:
        small = functional.interpolate(x, scale_factor=float(_uniform(1, 0.45, 0.9, rng)))
        coarse = functional.interpolate(small, size=(size, size), mode="bilinear")
        mix = _sometimes(n, 0.5, rng)
        x = x * (1 - mix) + coarse * mix
    ghost = torch.roll(x, int(torch.randint(8, size - 8, (1,), generator=rng)), dims=2)
    amount = _sometimes(n, 0.12, rng) * _uniform(n, 0.03, 0.2, rng).view(-1, 1, 1, 1)
    x = x * (1 - amount) + ghost * amount
    noise = _sometimes(n, 0.6, rng) * _uniform(n, 0.0, 0.09, rng).view(-1, 1, 1, 1)
    return x + noise * torch.randn(x.shape, generator=rng)


def intensity(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Gamma, a random monotone-ish tone curve, contrast and brightness around the z-score."""
    n = x.shape[0]
    lowest = x.amin(dim=(1, 2, 3), keepdim=True)
    span = (x.amax(dim=(1, 2, 3), keepdim=True) - lowest).clamp_min(1e-3)
    unit = ((x - lowest) / span).clamp(0, 1)
    gamma = torch.exp(_uniform(n, -0.55, 0.55, rng)).view(-1, 1, 1, 1)
    unit = unit**gamma
    wave = _sometimes(n, 0.3, rng) * _uniform(n, -0.12, 0.12, rng).view(-1, 1, 1, 1)
    unit = unit + wave * torch.sin(2 * math.pi * unit)
    mean = unit.mean(dim=(1, 2, 3), keepdim=True)
    deviation = unit.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    z = (unit - mean) / deviation
    gain = torch.exp(_uniform(n, -0.3, 0.3, rng)).view(-1, 1, 1, 1)
    return z * gain + _uniform(n, -0.35, 0.35, rng).view(-1, 1, 1, 1)


def augment(
    images: torch.Tensor,
    labels: torch.Tensor,
    centres: torch.Tensor,
    recipe: Recipe,
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops ``[n, c, crop, crop]`` and labels ``[n, crop, crop]`` of images in 0 to 1."""
    n, _, size, _ = images.shape
    grid = sampling_grid(n, size, centres, recipe, rng)
    x = functional.grid_sample(images, grid, mode="bilinear", align_corners=True)
    y = functional.grid_sample(labels[:, None], grid, mode="nearest", align_corners=True)
    # A neighbouring slice may be missing or equal: the network must not lean on it alone.
    middle = x.shape[1] // 2
    drop = _sometimes(n, recipe.drop_neighbours, rng)
    x = x * (1 - drop) + x[:, middle : middle + 1] * drop
    flip = torch.rand(n, generator=rng) < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(1), x)
    return intensity(scanner(x, recipe, rng), rng), y[:, 0].long()
