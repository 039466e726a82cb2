"""The networks of `keras.applications` that can be below the head, and what each needs.

Data alone: the settings are checked against it, so nothing here loads Keras.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal

Preprocessing = Literal["centred", "caffe", "torch", "own"]
"""What a network's ImageNet weights were trained to see, of RGB in 0..255: `centred`: -1..1;
`caffe`: BGR less the means of ImageNet; `torch`: 0..1, less its means, by its deviations; `own`:
the network begins with layers that do it."""


@dataclass(frozen=True)
class Base:
    """A network of `keras.applications`.

    Attributes:
        name: in `keras.applications`.
        preprocessing: of the pictures before it.
        imagenet_alphas: widths with ImageNet weights; without any the network has one width.
        loads_from_h5: whether Keras 3 reads it back from an HDF5 file.
    """

    name: str
    preprocessing: Preprocessing
    imagenet_alphas: tuple[float, ...] = ()
    loads_from_h5: bool = True

    @property
    def has_alpha(self) -> bool:
        """Whether it comes in several widths."""
        return bool(self.imagenet_alphas)


_V3_ALPHAS: Final = (0.75, 1.0)

BASES: Final = {
    base.name: base
    for base in (
        Base("MobileNetV2", "centred", (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
        Base("MobileNet", "centred", (0.25, 0.5, 0.75, 1.0)),
        # Keras writes the HDF5 files of these, and fails to read them.
        Base("MobileNetV3Small", "own", _V3_ALPHAS, loads_from_h5=False),
        Base("MobileNetV3Large", "own", _V3_ALPHAS, loads_from_h5=False),
        *(Base(f"EfficientNetB{number}", "own") for number in range(8)),
        *(Base(f"EfficientNetV2{size}", "own") for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
        *(
            Base(f"ConvNeXt{size}", "own", loads_from_h5=False)
            for size in ("Tiny", "Small", "Base", "Large", "XLarge")
        ),
        *(Base(f"ResNet{depth}", "caffe") for depth in (50, 101, 152)),
        *(Base(f"ResNet{depth}V2", "centred") for depth in (50, 101, 152)),
        *(Base(f"DenseNet{depth}", "torch") for depth in (121, 169, 201)),
        Base("VGG16", "caffe"),
        Base("VGG19", "caffe"),
        Base("InceptionV3", "centred"),
        Base("InceptionResNetV2", "centred", loads_from_h5=False),
        Base("Xception", "centred"),
        Base("NASNetMobile", "centred"),
        Base("NASNetLarge", "centred"),
    )
}
"""By name."""


def find_base(name: str) -> Base:
    """A network by its name.

    Raises:
        ValueError: there is none; the text names the nearest.
    """
    if name not in BASES:
        close = difflib.get_close_matches(name, BASES, n=3, cutoff=0.3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ValueError(f"{name!r} is no network of keras.applications{hint}")
    return BASES[name]
