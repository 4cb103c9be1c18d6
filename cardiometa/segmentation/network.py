"""The network: a plain 2-D U-Net over heart crops, with neighbouring slices as extra channels.

Input ``[n, context_slices, size, size]`` (z-scored), output ``[n, 4, size, size]`` logits in the
order background, LV cavity, LV myocardium, RV cavity. ``size`` must be a multiple of 32.

The layout follows Ronneberger 2015 (doi:10.1007/978-3-319-24574-4_28) with strided convolutions
in place of pooling and nearest-neighbour upsampling: both run at the limit of a CPU core.
This module imports torch alone, so that training runs wherever one folder of code can be copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

DEFAULT_WIDTHS: tuple[int, ...] = (16, 32, 56, 96, 160, 208)


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class HeartUNet(nn.Module):
    """U-Net of ``len(widths) - 1`` stride-2 stages.

    Each square of ``unshuffle`` pixels enters as channels of one pixel and the logits leave the
    same way (Shi 2016, doi:10.1109/CVPR.2016.207), so that ``widths[0]`` channels cost as much as
    a quarter of them at full resolution where ``unshuffle`` is 2.
    """

    def __init__(
        self,
        widths: Sequence[int] = DEFAULT_WIDTHS,
        context_slices: int = 3,
        classes: int = 4,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.unshuffle = unshuffle
        self.stem = _block(context_slices * unshuffle**2, widths[0])
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(_block(a + b, a) for a, b in pairs)
        self.head = nn.Conv2d(widths[0], classes * unshuffle**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, classes, size, size]`` of a batch ``[n, context_slices, size, size]``."""
        features = [self.stem(nn.functional.pixel_unshuffle(x, self.unshuffle))]
        for stage in self.down:
            features.append(stage(features[-1]))
        y = features.pop()
        for stage in reversed(self.up):
            y = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = stage(torch.cat([y, features.pop()], dim=1))
        return nn.functional.pixel_shuffle(self.head(y), self.unshuffle)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it (inference only, changes in place)."""
    for child in network.children():
        if (
            isinstance(child, nn.Sequential)
            and len(child) == 3
            and isinstance(child[0], nn.Conv2d)
            and isinstance(child[1], nn.BatchNorm2d)
        ):
            child[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(child[0].eval(), child[1].eval())
            child[1] = nn.Identity()
        else:
            fold_batch_norm(child)
    return network
