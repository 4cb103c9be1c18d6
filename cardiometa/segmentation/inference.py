"""The trained network rewritten for speed: the same function, fewer operations.

Batch norm is folded into the convolutions. A decoder stage of `HeartUNet` enlarges its input by
nearest neighbour, joins the skip connection and convolves; here the two halves of that convolution
are apart. The enlarged half, nearest neighbour and then 3 × 3, is one transposed convolution of
4 × 4 and stride 2, whose taps are sums of the old ones: each output then takes 4 products a
channel instead of 9, and neither the enlarged nor the joined image is ever written.
"""

from __future__ import annotations

import torch
from torch import nn

from .network import HeartUNet, fold_batch_norm


class InferenceUNet(nn.Module):
    """`HeartUNet` for inference; equal to it but for rounding. The network given is used up."""

    def __init__(self, network: HeartUNet) -> None:
        super().__init__()
        fold_batch_norm(network.eval())
        self.stem = network.stem
        self.down = network.down
        self.skip, self.up = nn.ModuleList(), nn.ModuleList()
        for stage in network.up:
            skip, up = _halves(stage[0])  # type: ignore[index]
            self.skip.append(skip)
            self.up.append(up)
        self.head = network.head
        self.requires_grad_(requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, classes, size, size]`` of a batch ``[n, context_slices, size, size]``."""
        features = [self.stem(x)]
        for stage in self.down:
            features.append(stage(features[-1]))
        y = features.pop()
        for up, skip in zip(reversed(self.up), reversed(self.skip), strict=True):
            y = skip(features.pop()).add_(up(y)).relu_()
        logits: torch.Tensor = self.head(y)
        return logits


def _halves(convolution: nn.Conv2d) -> tuple[nn.Conv2d, nn.ConvTranspose2d]:
    """The part of a decoder's convolution that sees the skip, with the bias, and the other one."""
    out = convolution.out_channels
    enlarged = convolution.in_channels - out
    weight = convolution.weight.detach()
    skip = nn.Conv2d(out, out, 3, 1, 1)
    skip.weight = nn.Parameter(weight[:, enlarged:].clone())
    assert convolution.bias is not None  # folded
    skip.bias = nn.Parameter(convolution.bias.detach().clone())
    up = nn.ConvTranspose2d(enlarged, out, 4, 2, 1, bias=False)
    up.weight = nn.Parameter(transposed_taps(weight[:, :enlarged]))
    return skip, up


def transposed_taps(weight: torch.Tensor) -> torch.Tensor:
    """Taps ``[in, out, 4, 4]`` of nearest-neighbour doubling and then 3 × 3 ``[out, in, 3, 3]``.

    An input pixel fills two enlarged ones; tap ``s`` of the transposed convolution lands one
    pixel before the first of them (``s`` = 0) to one behind the second (``s`` = 3), where tap
    ``t`` of the old one reaches them if ``s + t`` is 2 or 3.
    """
    spread = torch.zeros(4, 3, dtype=torch.float64)
    for s, t in ((0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)):
        spread[s, t] = 1
    taps = torch.einsum("st,oitu,ru->iosr", spread, weight.double(), spread)
    return taps.to(weight.dtype).contiguous()
