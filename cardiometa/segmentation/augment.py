"""Augmentation of one batch on the device: anatomy, geometry, tissue, scanner, then intensity.

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


def sampling_grid(centres: torch.Tensor, recipe: Recipe, rng: torch.Generator) -> torch.Tensor:
    """Pixel positions ``[n, crop, crop, 2]`` (x, y) around ``centres`` ``[n, 2]`` (y, x)."""
    n = len(centres)
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
    return torch.stack([x, y], dim=-1)


def _radial(
    grid: torch.Tensor, centre: torch.Tensor, shown: torch.Tensor, place: torch.Tensor
) -> torch.Tensor:
    """Pixel positions ``[n, s, s, 2]`` (x, y) moved along rays from ``centre`` ``[n, 2]``.

    At distance ``place`` ``[n, k]`` from the centre the image then shows what lay at ``shown``
    ``[n, k]``, rising both, linear in between and from 0; beyond the last they must be equal.
    """
    ray = grid - centre[:, None, None]
    distance = ray.norm(dim=-1)
    start = torch.zeros_like(place[:, :1])
    outer, source = (torch.cat([start, v], dim=1)[..., None, None] for v in (place, shown))
    moved = distance.clone()
    for k in range(place.shape[1]):
        low, high = outer[:, k], outer[:, k + 1]
        slope = (source[:, k + 1] - source[:, k]) / (high - low).clamp_min(1e-3)
        line = source[:, k] + (distance - low) * slope
        moved = torch.where((distance >= low) & (distance < high), line, moved)
    result: torch.Tensor = (
        centre[:, None, None] + ray * (moved / distance.clamp_min(1e-6))[..., None]
    )
    return result


def area_and_centre(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels ``[n]`` and centre ``[n, 2]`` (x, y) of masks ``[n, y, x]``."""
    mask = mask.float()
    area = mask.sum(dim=(1, 2))
    axis_y, axis_x = (torch.arange(k, dtype=torch.float32) for k in mask.shape[1:])
    x = (mask.sum(dim=1) * axis_x).sum(dim=1) / area.clamp_min(1)
    y = (mask.sum(dim=2) * axis_y).sum(dim=1) / area.clamp_min(1)
    return area, torch.stack([x, y], dim=1)


def anatomy(
    grid: torch.Tensor, labels: torch.Tensor, recipe: Recipe, rng: torch.Generator
) -> torch.Tensor:
    """Pixel positions ``[n, s, s, 2]`` (x, y) that show other hearts than those of ``labels``.

    LV: about its centre, the cavity's radius R_c becomes k R_c, the wall's outer radius R_w
    becomes m R_w, with log k from log 0.22 (all but obliterated) to log 1.15 and log m from
    log 0.92 to log 1.25; from 1.7 R_w on nothing moves. Where only the cavity has labels the wall
    is unknown and nothing is done. RV: about its centre, the radius of a circle of its area
    becomes 0.75 to 1.35 of itself, nothing moves from twice that radius on.
    """
    n = len(labels)
    cavity, wall = labels == 1, labels == 2
    inner, centre = area_and_centre(cavity)
    outer, _ = area_and_centre(cavity | wall)
    chosen = (torch.rand(n, generator=rng) < recipe.anatomy) & (inner >= 12) & (outer > 1.3 * inner)
    radius_c, radius_w = ((area / math.pi).sqrt() for area in (inner, outer))
    m = torch.exp(_uniform(n, math.log(0.92), math.log(1.25), rng))
    k = torch.exp(_uniform(n, math.log(0.22), math.log(1.15), rng))
    placed_c = torch.minimum(k * radius_c, 0.93 * m * radius_w)
    end = 1.7 * radius_w
    warped = _radial(
        grid,
        centre,
        torch.stack([radius_c, radius_w, end], dim=1),
        torch.stack([placed_c, m * radius_w, end], dim=1),
    )
    grid = torch.where(chosen.view(-1, 1, 1, 1), warped, grid)
    area, centre = area_and_centre(labels == 3)
    chosen = (torch.rand(n, generator=rng) < recipe.anatomy / 2) & (area >= 40)
    radius = (area / math.pi).sqrt()
    size = torch.exp(_uniform(n, math.log(0.75), math.log(1.35), rng))
    warped = _radial(
        grid,
        centre,
        torch.stack([radius, 2 * radius], dim=1),
        torch.stack([size * radius, 2 * radius], dim=1),
    )
    return torch.where(chosen.view(-1, 1, 1, 1), warped, grid)


def tissue(
    x: torch.Tensor, labels: torch.Tensor, recipe: Recipe, rng: torch.Generator
) -> torch.Tensor:
    """Images in 0 to 1 in which each labelled structure is brighter or darker as a whole.

    Its own offset N(0, 0.12) per structure, blurred by 1.2 pixels and weaker (0.8) in the slices
    beside, whose labels differ a little: no contrast between tissues then stands for a vendor.
    """
    n = len(x)
    size = 0.12 * _sometimes(n, recipe.tissue, rng) * torch.randn(n, 3, 1, 1, generator=rng)
    structures = torch.stack([labels == k for k in (1, 2, 3)], dim=1)
    smooth = _blur((size * structures).sum(dim=1, keepdim=True), 1.2)
    weight = torch.full((1, x.shape[1], 1, 1), 0.8)
    weight[:, x.shape[1] // 2] = 1.0
    return (x + weight * smooth).clamp(0, 1)


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
    grid = anatomy(sampling_grid(centres, recipe, rng), labels, recipe, rng)
    grid = grid / ((size - 1) / 2) - 1
    x = functional.grid_sample(images, grid, mode="bilinear", align_corners=True)
    y = functional.grid_sample(labels[:, None], grid, mode="nearest", align_corners=True)
    x = tissue(x, y[:, 0], recipe, rng)
    # A neighbouring slice may be missing or equal: the network must not lean on it alone.
    middle = x.shape[1] // 2
    drop = _sometimes(n, recipe.drop_neighbours, rng)
    x = x * (1 - drop) + x[:, middle : middle + 1] * drop
    flip = torch.rand(n, generator=rng) < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(1), x)
    return intensity(scanner(x, recipe, rng), rng), y[:, 0].long()
