"""The table of the networks: everything that the package knows of a network and that is not in its module.

A network is a module beside this file, or one of MONAI's, and a row here; nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.networks.shape import Shape

Place = Callable[[int, Shape], tuple[str, int]]  # number within a list of modules -> part of the drawing and level
_LAYOUT = {
    "spatial_dims": "@spatial_dims",
    "in_channels": "@num_channels",
    "out_channels": "@num_classes",
    "filters": "@filters",
    "kernel_size": "@kernel_size",
    "strides": "@strides",
}


def _take(*names: str) -> dict[str, str]:
    """The layout, and further numbers of the plan, as arguments of the same names."""
    return _LAYOUT | {name: f"@{name}" for name in names}


def _down(number: int, shape: Shape) -> tuple[str, int]:
    return "encoder", number


def _up(number: int, shape: Shape) -> tuple[str, int]:
    return "decoder", len(shape.filters) - 2 - number


def _head(number: int, shape: Shape) -> tuple[str, int]:
    return "head", shape.num_supervised_heads - number  # the full resolution last


_PARTS: dict[str, Place] = {
    "encoder.#": _down,
    "decoder.#": _up,
    "heads.#": _head,
    "head": lambda _, shape: ("head", 0),
}


def _nested(number: int, shape: Shape) -> tuple[str, int]:
    """Of the nodes behind the encoder of U-Net++, which are counted column by column."""
    column, depth = 1, len(shape.filters) - 1
    while number > depth - column:
        number, column = number - (depth - column + 1), column + 1
    return "decoder" if number + column == depth else "nested", number


@dataclass(frozen=True)
class Network:
    """A row.

    Attributes:
        paper: its name.
        arxiv: its number there; "" for none.
        prediction: class that predicts, `module.Class` of this folder or a full name of MONAI's.
        training: class with the same weights that gives the logits of all heads, a list, in training mode; "" for the same class.
        arguments: of both classes: values, or ids of the config such as "@filters".
        heads: "one"; "levels", one per level, of which the plan says how many; or "nested", one per level, all at full resolution.
        fewest_heads: least number of heads beside the last one.
        spatial_dims: what the paper is for.
        filters: the paper's channels per level; empty where it leaves them to the plan.
        normalisation: the paper's: "instance", "batch" or "none".
        padded: whether the paper's convolutions keep the size.
        convolutions_per_level: of a network that may go without padding, on the way down and up; 0 for one that may not.
        dropout: the paper's share of the values at the lowest levels.
        loss: the paper's; a name in the plan.
        elastic: the paper's elastic deformation: control points per axis, and standard deviation in voxels; None for the plan's own.
        num_blocks: the paper's residual blocks per level; empty for a network without.
        fewer_blocks: likewise, for presets that are narrower than the paper.
        up_convolution_bias: argument that gives the up-convolutions a bias; "" where there is no such choice.
        scriptable: TorchScript can compile it; otherwise it is traced, and must read no size.
        parts: prefix of a module's name, with "#" for a number, to its part and level in the drawing; the longest that fits.
    """

    paper: str
    arxiv: str
    prediction: str
    training: str = ""
    arguments: Mapping[str, object] = field(default_factory=lambda: _LAYOUT)
    heads: str = "one"
    fewest_heads: int = 0
    spatial_dims: tuple[int, ...] = (2, 3)
    filters: tuple[int, ...] = ()
    normalisation: str = "instance"
    padded: bool = True
    convolutions_per_level: int = 0
    dropout: float = 0.0
    loss: str = "dice_ce"
    elastic: tuple[int, float] | None = None
    num_blocks: tuple[int, ...] = ()
    fewer_blocks: tuple[int, ...] = ()
    up_convolution_bias: str = ""
    scriptable: bool = True
    parts: Mapping[str, Place] = field(default_factory=lambda: _PARTS)

    @property
    def reference(self) -> str:
        """The paper, and where to find it."""
        return f"{self.paper}, arXiv:{self.arxiv}" if self.arxiv else self.paper

    @property
    def is_modern(self) -> bool:
        """Whether it is published with padding, instance normalisation and no loss or dropout of its own."""
        return self.padded and self.normalisation == "instance" and (self.dropout, self.loss) == (0.0, "dice_ce")

    def bound_heads(self, num_levels: int) -> tuple[int, int]:
        """Fewest and most heads beside the last one."""
        most = 0 if self.heads == "one" else num_levels - 2
        return (most if self.heads == "nested" else self.fewest_heads), most

    def target(self, for_training: bool = False) -> str:
        """Full name of the class, in this package or in MONAI."""
        name = (self.training if for_training else "") or self.prediction
        return name if name.startswith("monai.") else f"{__package__}.{name}"

    def bundle_target(self, for_training: bool = False) -> str:
        """The class as the bundle's configs name it: a copy inside of the bundle, where MONAI lacks the network."""
        own = "unet_networks" if not self.prediction.startswith("monai.") else __package__
        return self.target(for_training).replace(f"{__package__}.", f"{own}.")


NETWORKS = {
    "dynunet": Network(
        "Isensee et al. 2021, in MONAI's form (DynUNet)",
        "",
        "monai.networks.nets.DynUNet",
        "dynunet.DeepSupervisionDynUNet",
        {
            "spatial_dims": "@spatial_dims",
            "in_channels": "@num_channels",
            "out_channels": "@num_classes",
            "kernel_size": "@kernel_size",
            "strides": "@strides",
            "upsample_kernel_size": "@upsample_kernel_size",
            "filters": "@filters",
            # in evaluation mode the network still gives one tensor; the heads' weights load strictly
            "deep_supervision": True,
            "deep_supr_num": "@num_supervised_heads",
        },
        heads="levels",
        fewest_heads=1,
        up_convolution_bias="trans_bias",
        scriptable=False,  # MONAI's with supervised heads
        parts={
            "input_block": lambda _, shape: ("encoder", 0),
            "downsamples.#": lambda number, shape: ("encoder", number + 1),
            "bottleneck": lambda _, shape: ("encoder", len(shape.filters) - 1),
            "upsamples.#": _up,
            "deep_supervision_heads.#": lambda number, shape: ("head", number + 1),
            "output_block": lambda _, shape: ("head", 0),
        },
    ),
    "resenc": Network(
        "Isensee et al. 2024, residual encoder",
        "2404.09556",
        "residual_encoder.ResidualEncoderUNet",
        "residual_encoder.SupervisedResidualEncoderUNet",
        _take("num_blocks", "num_supervised_heads", "normalisation"),
        heads="levels",
        num_blocks=(1, 3, 4, 6, 6, 6),
        fewer_blocks=(1, 2, 2, 2, 2, 2),
    ),
    "unet2015": Network(
        "Ronneberger et al. 2015",
        "1505.04597",
        "unet.UNet2015",
        arguments=_take("padded", "normalisation", "dropout"),
        spatial_dims=(2,),
        filters=(64, 128, 256, 512, 1024),
        normalisation="none",
        padded=False,
        convolutions_per_level=2,
        dropout=0.5,
        loss="border_weighted_ce",
        elastic=(3, 10.0),
    ),
    "unet3d2016": Network(
        "Çiçek et al. 2016",
        "1606.06650",
        "unet.UNet3D2016",
        arguments=_take("padded", "normalisation"),
        spatial_dims=(3,),
        filters=(64, 128, 256, 512),
        normalisation="batch",
        padded=False,
        convolutions_per_level=2,
    ),
    "unetplusplus": Network(
        "Zhou et al. 2018",
        "1807.10165",
        "unetplusplus.UNetPlusPlus",
        "unetplusplus.SupervisedUNetPlusPlus",
        _take("normalisation", "pruned_to"),
        heads="nested",
        filters=(32, 64, 128, 256, 512),
        normalisation="none",
        parts=_PARTS | {"nodes.#": _nested, "heads.#": lambda _, shape: ("head", 0)},
    ),
    "attention_unet": Network(
        "Oktay et al. 2018",
        "1804.03999",
        "attention_unet.AttentionUNet",
        "attention_unet.SupervisedAttentionUNet",
        _take("num_supervised_heads", "normalisation"),
        heads="levels",
        filters=(64, 128, 256, 512, 1024),
        normalisation="batch",
        parts=_PARTS | {"decoder.#.gate": lambda number, shape: ("gate", len(shape.filters) - 2 - number)},
    ),
}
