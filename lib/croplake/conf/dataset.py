"""The dataset spec: which boxes a dataset takes, as which categories, under which rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from croplake.catalog.formats import SUBSETS, Subset
from croplake.catalog.picker import ClassChoice, Overlap
from croplake.conf.fields import (
    CategoryName,
    ConfModel,
    Fraction,
    Name,
    Pattern,
    PositiveFloat,
    PositiveInt,
)

FlagRule = Literal["any", "only", "exclude"]
UnknownRule = Literal["keep", "reject"]


class UnknownFlagsSpec(ConfModel):
    """What happens to a box whose flag is unknown (-1), whatever the flag's rule."""

    occluded: UnknownRule = "keep"
    """Of `occluded`."""
    truncated: UnknownRule = "keep"
    """Of `truncated`."""
    group_of: UnknownRule = "keep"
    """Of `group_of`."""
    depiction: UnknownRule = "keep"
    """Of `depiction`."""
    inside: UnknownRule = "keep"
    """Of `inside`."""


class FlagsSpec(ConfModel):
    """Which boxes a flag lets through: `any`, `only` flagged ones, or `exclude` flagged ones."""

    occluded: FlagRule = "any"
    """Partly hidden by another object."""
    truncated: FlagRule = "any"
    """Extends beyond the photo's edge."""
    group_of: FlagRule = "exclude"
    """One box around more than five touching instances."""
    depiction: FlagRule = "exclude"
    """A drawing, a toy or a statue of the class."""
    inside: FlagRule = "exclude"
    """A picture taken from inside the object."""
    unknown: UnknownFlagsSpec = UnknownFlagsSpec()
    """Unknown flags, each by its own choice; `keep` or `reject` alone is for all of them."""

    @field_validator(
        "unknown", mode="before", json_schema_input_type=UnknownFlagsSpec | UnknownRule
    )
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        if isinstance(value, str):
            return dict.fromkeys(UnknownFlagsSpec.model_fields, value)
        return value


class HashShares(ConfModel):
    """Shares of the photos under `split: hash`; they add up to 1."""

    train: Fraction = 0.8
    """Share of the training split."""
    validation: Fraction = 0.1
    """Share of the validation split."""
    test: Fraction = 0.1
    """Share of the test split."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> HashShares:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class BalanceSpec(ConfModel):
    """How many training examples a category has at most; judged by build_examples."""

    rule: Literal["none", "cap", "downsample"] = "none"
    """`cap`: at most `max_examples` of a category; `downsample`: as many as the smallest has."""
    max_examples: PositiveInt | None = None
    """The cap's."""

    @model_validator(mode="after")
    def _cap_has_its_number(self) -> BalanceSpec:
        if (self.rule == "cap") != (self.max_examples is not None):
            raise ValueError("rule: cap needs max_examples, and only cap has it")
        return self


class NearDuplicatesSpec(ConfModel):
    """Photos of a dataset that look alike; judged by build_examples."""

    rule: Literal["reject", "ignore"] = "reject"
    """`reject`: a group stays in its most protected split (test, then validation, then train), its
    photos elsewhere are turned down; `ignore`: they are not looked for."""
    max_distance: Annotated[int, Field(ge=0, le=8)] = 3
    """Greatest number of bits in which two photos' 64-bit dHashes differ."""
    max_color_difference: Annotated[float, Field(ge=0, le=255)] = 10.0
    """Second check: greatest mean difference (of 255) of the colours of their 4×4 cells."""
    max_bucket: Annotated[int, Field(ge=2)] = 1000
    """dHashes that one bucket compares, and photos that stand for one dHash, at most: larger
    buckets are left out, further photos are compared with those that stand for them alone. Both are
    counted."""


class DatasetSpec(ConfModel):
    """A dataset: which boxes, as which categories, under which rules."""

    name: Name
    """The dataset's name: partition of `selected_boxes` and `examples`."""
    classes: tuple[Pattern, ...] = ()
    """Classes that become categories of their own name: names (any capitalisation), MIDs (`/m/…`),
    globs (`*noodle*`), subtrees (`Vehicle/**`: the class and all below it), or `all` (every class
    with a box)."""
    exclude: tuple[Pattern, ...] = ()
    """Classes that are left out, whatever else names them; written as `classes`."""
    categories: dict[CategoryName, Annotated[tuple[Pattern, ...], Field(min_length=1)]] = Field(
        default={}
    )
    """Own categories, each of the classes it is given; written as `classes`."""
    on_overlap: Overlap = "error"
    """What happens to a class of two categories: an `error` names both, `first` takes the first
    (own categories before `classes`), `most_specific` the one that names it most closely (a name or
    MID, the nearer subtree, a glob, `all`)."""
    subsets: tuple[Subset, ...] = Field(default=SUBSETS, min_length=1)
    """Subsets of Open Images to take boxes from."""
    flags: FlagsSpec = FlagsSpec()
    """Rules for the five flags."""
    min_box_side_frac: Fraction = 0.0
    """Least side of a box as a fraction of the photo's side (the CSVs carry no pixel sizes)."""
    box_sources: tuple[str, ...] | None = None
    """How boxes were made (`xclick`: drawn by a person, `activemil`: by a model, then verified);
    null takes all."""
    min_confidence: Fraction = 0.0
    """Least confidence of a box."""
    licenses: tuple[Pattern, ...] | None = None
    """Licences of photos, as globs over their addresses (`*/licenses/by/*`); null takes all."""
    max_boxes_per_photo: PositiveInt | None = None
    """Cap on kept boxes of a photo; null is no cap."""
    max_boxes_per_category: PositiveInt | None = None
    """Cap on kept boxes of a category, in an order that depends on the boxes alone; null is no cap.
    Boxes that could not be fetched do not count: the next ones take their places."""
    min_crop_side_px: PositiveInt = 1
    """Least side of the box in the photo, in pixels before resizing; judged by build_examples."""
    min_aspect_ratio: PositiveFloat | None = None
    """Least width ÷ height of a crop as it is seen, turned upright; judged by build_examples."""
    max_aspect_ratio: PositiveFloat | None = None
    """Greatest width ÷ height of a crop as it is seen; judged by build_examples."""
    balance: BalanceSpec = BalanceSpec()
    """Balance of the training split's categories."""
    near_duplicates: NearDuplicatesSpec = NearDuplicatesSpec()
    """What happens to photos that look alike."""
    split: Literal["open_images", "hash"] = "open_images"
    """The split of every photo: its Open Images subset, or a hash of its id. The hash deals out
    anew what `subsets` names, Open Images' own test photos too: leave `test` out of `subsets` where
    models are to be compared on that."""
    hash_shares: HashShares = HashShares()
    """Shares under `split: hash`."""
    on_missing_split: Literal["warn", "error"] = "warn"
    """What a category without any example in one of the splits is."""

    @property
    def is_capped(self) -> bool:
        """Whether a cap bounds what it keeps."""
        return self.max_boxes_per_photo is not None or self.max_boxes_per_category is not None

    @property
    def choice(self) -> ClassChoice:
        """What it says of classes."""
        return ClassChoice(self.classes, self.exclude, self.categories, self.on_overlap)

    @model_validator(mode="after")
    def _names_classes(self) -> DatasetSpec:
        if not self.classes and not self.categories:
            raise ValueError("a dataset needs classes or categories")
        return self

    @model_validator(mode="after")
    def _aspects_in_order(self) -> DatasetSpec:
        least, greatest = self.min_aspect_ratio, self.max_aspect_ratio
        if least is not None and greatest is not None and least > greatest:
            raise ValueError(
                f"min_aspect_ratio must be at most max_aspect_ratio ({greatest:g}), got {least:g}"
            )
        return self
