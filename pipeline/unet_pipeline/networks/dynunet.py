"""MONAI's DynUNet with deep supervision at the heads' own resolutions.

MONAI up-samples every head to full size and stacks them, which multiplies memory and the cost of the loss. Here the
training output is a list, as `monai.losses.DeepSupervisionLoss` takes it. Parameters, their names and the output in
evaluation mode are MONAI's, so that weights move freely between both classes.
"""

from __future__ import annotations

import torch
from monai.networks.nets import DynUNet


class DeepSupervisionDynUNet(DynUNet):
    """DynUNet that returns a list of logits in training mode, the full resolution first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits.

        Args:
            x: shape (batch, channels, *spatial), sizes multiples of the total stride.

        Returns:
            In training mode a list of (batch, classes, *spatial at the head's level); otherwise the first of them.
        """
        out = self.output_block(self.skip_layers(x))
        return [out, *self.heads] if self.training else out
