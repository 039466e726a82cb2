"""The settings: frozen models, unknown keys forbidden, checked before Spark starts.

A field's docstring is its entry in the configuration reference (`conf/README.md`), which is
generated from this module.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from croplake.catalog.formats import Subset
from croplake.conf.dataset import DatasetSpec
from croplake.conf.fields import (
    ConfModel,
    Fraction,
    NotNegative,
    Place,
    PositiveFloat,
    PositiveInt,
)
from croplake.conf.inference import ClassifyConf, EvaluateConf, ProbeConf, SimilarConf
from croplake.conf.training import TrainConf
from croplake.fetching.addresses import host_key

SourceName = Literal["at_hand", "mirror", "original", "thumbnail"]
Quantization = Literal["none", "float16", "dynamic"]


class LakeConf(ConfModel):
    """Where the tables and models live."""

    root: str = "build/lake"
    """Folder of the lake: a local path, or an address (`file://`, `s3a://`)."""


class SparkConf(ConfModel):
    """How Spark is started."""

    master: str | None = "local[*]"
    """Spark master. Under spark-submit its own `--master` wins; null leaves it to Spark's files."""
    properties: dict[str, str] = Field(default={})
    """Further Spark properties; they win over croplake's own."""


class CatalogConf(ConfModel):
    """The published CSV files, as local paths, `s3a://`, `hdfs://` or http(s) addresses.

    Tasks read them: of a cluster, every machine must reach the paths, or have the bucket's keys in
    its environment (`AWS_ACCESS_KEY_ID`, …).
    """

    classes: Place
    """Class descriptions (MID, name), with a header (v7) or without (v5)."""
    hierarchy: Place
    """The class hierarchy (JSON)."""
    photos: dict[Subset, Place] = Field(min_length=1)
    """Photos CSV of each subset."""
    boxes: dict[Subset, Place] = Field(min_length=1)
    """Boxes CSV of each subset."""
    max_rejected_frac: Fraction = 0.01
    """Greatest share of unreadable rows in a file (above the first 100); more refuse the file."""

    @field_validator("photos", "boxes")
    @classmethod
    def _one_file_each(cls, files: dict[Subset, str]) -> dict[Subset, str]:
        for one, other in combinations(files, 2):
            if files[one] == files[other]:
                raise ValueError(f"{one} and {other} name the same file: {files[one]}")
        return files


class RecipeConf(ConfModel):
    """How a crop is cut and encoded; each recipe keeps its own crops in the lake."""

    padding_frac: Annotated[float, Field(ge=0, le=2)] = 0.05
    """Margin on every side, as a fraction of the box's longer side."""
    max_side_px: PositiveInt = 256
    """Greatest side of a crop; larger ones are scaled down, none is scaled up."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 92
    """JPEG quality; chroma is not subsampled."""
    resampler: Literal["area", "lanczos", "bicubic", "box"] = "area"
    """Filter of the downscaling; `area` (2×2 means, then linear) costs a tenth of `lanczos`."""


class HostBudgetConf(ConfModel):
    """What all tasks of a run together may ask of a host."""

    transfers: PositiveInt = 32
    """Requests under way at once; fewer than tasks means that only so many tasks ask it at once."""
    rate_per_s: PositiveFloat | None = None
    """Requests started a second; null is no limit."""


_HOSTS: Final = {
    "*": HostBudgetConf(transfers=32),
    "open-images-dataset.s3.amazonaws.com": HostBudgetConf(transfers=1024),
    "staticflickr.com": HostBudgetConf(transfers=32, rate_per_s=50),
}


class FetchConf(ConfModel):
    """Downloading photos and cropping boxes."""

    recipe: RecipeConf = RecipeConf()
    """How crops are cut."""
    sources: tuple[SourceName, ...] = Field(
        default=("at_hand", "mirror", "original", "thumbnail"), min_length=1
    )
    """Where a photo is looked for, in order; the thumbnail only where its rotation is 0."""
    at_hand: tuple[str, ...] = ()
    """Folders and plain tar files with photos named `{ImageID}.jpg`, on any storage; the first that
    has a photo gives it."""
    mirror_url: Place = "https://open-images-dataset.s3.amazonaws.com/{subset}/{image_id}.jpg"
    """Address of a photo in the mirror."""
    check_originals: bool = True
    """Whether an original must have the size and the MD5 that the catalog gives; one that its
    author has replaced has other boxes."""
    hosts: dict[str, HostBudgetConf] = _HOSTS
    """Budget of each host, by registrable domain (all of Flickr's farms are `staticflickr.com`);
    `*` is any other. The mirror has 1024 transfers, Flickr 32 and 50 a second, `*` 32; what
    is given here is added to these, or replaces them one by one."""
    contact: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    """Address or mail of who runs this, sent in the User-Agent."""
    private_hosts: tuple[str, ...] = ()
    """Host names that may lead to private addresses (a mirror of your own); all others are refused
    there."""
    connect_to: dict[str, str] = Field(default={})
    """Host name to `address:port` to connect to instead, as curl's `--connect-to`."""
    ca_file: str | None = None
    """Certificates (PEM) to trust, on every executor; null is the environment's (`SSL_CERT_FILE`),
    else Mozilla's list."""
    connect_timeout_s: PositiveFloat = 10.0
    """Longest wait for a connection."""
    read_timeout_s: PositiveFloat = 20.0
    """Longest silence of a host."""
    photo_timeout_s: PositiveFloat = 90.0
    """Time of a photo in all, over its sources, redirects and tries, from its first request on."""
    max_pause_s: PositiveFloat = 60.0
    """Longest time a host is left alone, whatever its Retry-After says."""
    rounds: Annotated[int, Field(ge=1, le=10)] = 2
    """How often a run asks a photo's sources, those whose failure may pass."""
    max_photo_bytes: PositiveInt = 64 * 1024 * 1024
    """A longer photo is cut off and counted as failed."""
    max_photo_pixels: PositiveInt = 64_000_000
    """A photo of more pixels is not decoded, nor one that is no plain JPEG of more than a quarter:
    a task holds all of a photo's pixels."""
    transfers_per_task: PositiveInt = 64
    """Photos a task has on the wire at once, over all hosts."""
    photos_per_task: PositiveInt = 2000
    """Photos of a task in one chunk; a chunk (times the slots) is one commit."""
    retry: Literal["transient", "all", "none"] = "transient"
    """Failures of earlier runs that are tried again."""
    max_attempts: PositiveInt = 3
    """Tries of a box, over all runs; one that its host was not asked for does not count."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 1024 * 1024 * 1024
    """Room that the run leaves on the lake's disk: it does not start, or stops between chunks,
    where less would be left; 0 looks at no disk."""

    @field_validator("mirror_url", mode="after")
    @classmethod
    def _fill_mirror_url(cls, template: str) -> str:
        try:
            template.format(subset="train", image_id="0" * 16)
        except (KeyError, IndexError, ValueError) as error:
            known = "{subset} and {image_id} can be filled in"
            raise ValueError(f"{template}: {known}, found {error!r}") from None
        return template

    @field_validator("connect_to", mode="after")
    @classmethod
    def _connect_by_ascii(cls, hosts: dict[str, str]) -> dict[str, str]:
        found = {}
        for host, address in hosts.items():
            if not address.isascii() or not address.rpartition(":")[2].isdecimal():
                raise ValueError(f"{host}: {address!r} is no address:port")
            try:
                found[host.encode("idna").decode()] = address
            except UnicodeError as error:
                raise ValueError(f"{host!r} is no host name ({error})") from None
        return found

    @field_validator("hosts", mode="after")
    @classmethod
    def _add_hosts(cls, hosts: dict[str, HostBudgetConf]) -> dict[str, HostBudgetConf]:
        for name in hosts:
            if name != "*" and host_key(name) != name:
                raise ValueError(f"{name} is paced as {host_key(name)}; give that a budget")
        return _HOSTS | hosts


class PlanConf(ConfModel):
    """What `plan-fetch` has to know of the world."""

    bandwidth_mbit_per_s: PositiveFloat = 200.0
    """Of the line, for all executors together."""
    answer_s: PositiveFloat = 0.3
    """What a photo's host takes for an answer, from the request to its last byte."""
    core_speed: PositiveFloat = 1.0
    """How fast a core is beside the one that the model's constants were measured on, which decodes
    a JPEG of 1 MB in 9.7 ms; `make bench-fetch` tells a machine's."""
    min_boxes: PositiveInt = 50
    """A category of fewer kept boxes is warned of."""
    max_imbalance: PositiveFloat = 100.0
    """A greater ratio of the largest category to the smallest is warned of."""


class ExamplesConf(ConfModel):
    """Layout of the training shards."""

    shuffle_seed: int = 17
    """Seed of the order of the examples."""
    row_group_bytes: Annotated[int, Field(ge=64 * 1024, le=8 * 1024 * 1024)] = 8 * 1024 * 1024
    """Greatest row group, the unit that workers share out."""
    file_bytes: Annotated[int, Field(ge=1024 * 1024, le=256 * 1024 * 1024)] = 256 * 1024 * 1024
    """Greatest file."""
    min_row_groups: PositiveInt = 16
    """Least row groups of the training split, so that many workers have something to read."""


class ReportConf(ConfModel):
    """Pictures in the pages of `report-dataset` and `classify-photos`."""

    crops_per_category: PositiveInt = 24
    """Crops of a category, at most."""
    gallery_bytes: PositiveInt = 20_000_000
    """Bytes of all these crops in the page; the categories share them evenly."""
    thumbnail_side_px: Annotated[int, Field(ge=16, le=1024)] = 128
    """Greatest side of a crop in the page; larger ones are scaled down."""


class ExportConf(ConfModel):
    """The files that `export-examples` writes."""

    shard_bytes: PositiveInt = 100_000_000
    """Greatest size of a shard, about: of a tar or TFRecord file, of the pictures that a task
    writes into folders."""
    min_shards: PositiveInt = 1
    """Shards that a split's rows are dealt to at least, so that many readers have something to
    read; where rows are few, some stay empty and are not written."""


class ExportModelConf(ConfModel):
    """The files that `export-model` writes."""

    quantization: Quantization = "none"
    """Weights of the `.tflite` file: `none` as trained, `float16` half the size, `dynamic` a
    quarter (8 bits) and answers that differ."""


class MaintainConf(ConfModel):
    """What `lake maintain` keeps, and which files it puts together."""

    retention_hours: NotNegative = 168
    """Versions of the last so many hours stay readable; older ones only for models and running
    jobs. As long stays what a training that broke off left; half a file that a killed process left,
    a day at least."""
    log_retention_days: NotNegative = 30
    """A table's history goes back so many days, further where a model needs it."""
    small_file_bytes: PositiveInt = 32 * 1024 * 1024
    """Files below this are put together; larger ones are never rewritten."""
    max_file_bytes: PositiveInt = 128 * 1024 * 1024
    """What is put together does not grow beyond this."""

    @model_validator(mode="after")
    def _small_is_below_max(self) -> MaintainConf:
        if self.small_file_bytes > self.max_file_bytes:
            raise ValueError(
                f"small_file_bytes must be at most max_file_bytes ({self.max_file_bytes}), "
                f"got {self.small_file_bytes}"
            )
        return self


class MiniatureConf(ConfModel):
    """A small drawn Open Images world, served on loopback while a job runs."""

    root: str = "build/miniature"
    """Folder of the world; made when missing."""
    num_photos: Annotated[int, Field(ge=1)] = 2400
    """Size of the world."""
    seed: int = 17
    """Another seed draws another world."""


class Settings(ConfModel):
    """Everything a run needs."""

    lake: LakeConf = LakeConf()
    """The lake."""
    spark: SparkConf = SparkConf()
    """Spark."""
    catalog: CatalogConf
    """The CSV files."""
    dataset: DatasetSpec
    """The dataset, or the path of a YAML file that holds it."""
    fetch: FetchConf = FetchConf()
    """Downloading and cropping."""
    plan: PlanConf = PlanConf()
    """Planning."""
    examples: ExamplesConf = ExamplesConf()
    """Training shards."""
    train: TrainConf = TrainConf()
    """Training."""
    evaluate: EvaluateConf = EvaluateConf()
    """Evaluation."""
    classify: ClassifyConf = ClassifyConf()
    """Classification."""
    probe: ProbeConf = ProbeConf()
    """The baseline."""
    similar: SimilarConf = SimilarConf()
    """Looking for similar crops."""
    report: ReportConf = ReportConf()
    """Pages."""
    export: ExportConf = ExportConf()
    """Taking datasets away."""
    export_model: ExportModelConf = ExportModelConf()
    """Taking models away."""
    maintain: MaintainConf = MaintainConf()
    """Care of the lake."""
    miniature: MiniatureConf | None = None
    """The miniature world, or null for the real one."""

    @property
    def is_on_s3(self) -> bool:
        """Whether any address in them is on S3."""
        return re.search("s3a?://", self.model_dump_json(), re.IGNORECASE) is not None
