"""Every table of the lake: its columns, types and partitions, once.

Schemas are Arrow's, so that executors and readers without Spark share them; `lake` turns them
into Spark's. Each write is checked against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = 3
"""Written into every lake; a lake of another version is refused, not guessed at."""

# --- column names -------------------------------------------------------------------------------
ATTEMPT: Final = "attempt"
AUTHOR: Final = "author"
AUTHOR_URL: Final = "author_url"
BOX_AREA_FRAC: Final = "box_area_frac"
BOX_ID: Final = "box_id"
CATEGORY: Final = "category"
CLASS_NAME: Final = "class_name"
CONFIDENCE: Final = "confidence"
COUNTS: Final = "counts"
DATASET: Final = "dataset"
DETAIL: Final = "detail"
ENDED_AT: Final = "ended_at"
EXAMPLE_ID: Final = "example_id"
FETCHED_AT: Final = "fetched_at"
FILE: Final = "file"
FORGOTTEN_AT: Final = "forgotten_at"
GROUP_ID: Final = "group_id"
HAS_CROP: Final = "has_crop"
HEIGHT_PX: Final = "height_px"
HTTP_STATUS: Final = "http_status"
IMAGE: Final = "image"
IMAGE_ID: Final = "image_id"
IS_DEPICTION: Final = "is_depiction"
IS_GROUP_OF: Final = "is_group_of"
IS_INSIDE: Final = "is_inside"
IS_OCCLUDED: Final = "is_occluded"
IS_TRUNCATED: Final = "is_truncated"
JOB: Final = "job"
JPEG: Final = "jpeg"
LABEL_INDEX: Final = "label_index"
LABEL_MID: Final = "label_mid"
LANDING_URL: Final = "landing_url"
LICENSE: Final = "license"
LINE: Final = "line"
METRIC: Final = "metric"
MODEL_ID: Final = "model_id"
NETWORK: Final = "network"
NETWORK_DIGEST: Final = "network_digest"
NUM_BOXES_TEST: Final = "num_boxes_test"
NUM_BOXES_TRAIN: Final = "num_boxes_train"
NUM_BOXES_VALIDATION: Final = "num_boxes_validation"
ORIGINAL_MD5_BASE64: Final = "original_md5_base64"
ORIGINAL_SIZE_BYTES: Final = "original_size_bytes"
ORIGINAL_URL: Final = "original_url"
OTHER_MODEL_ID: Final = "other_model_id"
OUTCOME: Final = "outcome"
PARENT_MIDS: Final = "parent_mids"
PATH: Final = "path"
PHOTO_COLORS: Final = "photo_colors"
PHOTO_DHASH: Final = "photo_dhash"
PHOTO_HEIGHT_PX: Final = "photo_height_px"
PHOTO_SHA256: Final = "photo_sha256"
PHOTO_WIDTH_PX: Final = "photo_width_px"
PREDICTED_AT: Final = "predicted_at"
PREDICTED_CATEGORY: Final = "predicted_category"
PROBABILITIES: Final = "probabilities"
PROBABILITY: Final = "probability"
REASON: Final = "reason"
RECIPE_ID: Final = "recipe_id"
REJECT_REASON: Final = "reject_reason"
ROTATION_DEG: Final = "rotation_deg"
RUN_ID: Final = "run_id"
SETTINGS: Final = "settings"
SETTINGS_HASH: Final = "settings_hash"
SLICE: Final = "slice"
SOURCE: Final = "source"
SOURCE_BOX_HEIGHT_PX: Final = "source_box_height_px"
SOURCE_BOX_WIDTH_PX: Final = "source_box_width_px"
SPLIT: Final = "split"
STARTED_AT: Final = "started_at"
STATUS: Final = "status"
SUBSET: Final = "subset"
TABLE: Final = "table"
TABLES_READ: Final = "tables_read"
TABLES_WRITTEN: Final = "tables_written"
TEXT: Final = "text"
THUMBNAIL_URL: Final = "thumbnail_url"
TITLE: Final = "title"
VALUE: Final = "value"
VECTOR: Final = "vector"
WIDTH_PX: Final = "width_px"
X_MAX: Final = "x_max"
X_MIN: Final = "x_min"
Y_MAX: Final = "y_max"
Y_MIN: Final = "y_min"

CORNERS: Final = (X_MIN, X_MAX, Y_MIN, Y_MAX)
FLAGS: Final = (IS_OCCLUDED, IS_TRUNCATED, IS_GROUP_OF, IS_DEPICTION, IS_INSIDE)
ATTRIBUTION: Final = (LICENSE, AUTHOR, AUTHOR_URL, TITLE, LANDING_URL)

STATUS_OK: Final = "ok"
RUNNING: Final = "running"
DONE: Final = "done"
INCOMPLETE: Final = "incomplete"
FAILED: Final = "failed"
KILLED: Final = "killed"
"""What `runs` says of a run; `killed` is put by `lake maintain` where one never ended."""
SPLITS: Final = ("train", "validation", "test")
REJECTED_SPLIT: Final = "rejected"
"""The partition of `examples` that holds, without bytes, the crops its rules turned down."""

_STRING, _INT, _LONG, _FLAG = pa.string(), pa.int32(), pa.int64(), pa.int8()
_DOUBLE, _BYTES, _BOOL = pa.float64(), pa.binary(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
_VERSIONS = pa.map_(_STRING, _LONG)

_CORNERS = {name: _DOUBLE for name in CORNERS}
_FLAGS = {name: _FLAG for name in FLAGS}
_ATTRIBUTION = {name: _STRING for name in ATTRIBUTION}


@dataclass(frozen=True)
class Table:
    """A table's name, columns and physical layout.

    Attributes:
        name: plural noun, also the folder under the lake's root.
        schema: columns in the order they are written.
        partition_by: partition columns, outermost first.
    """

    name: str
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns' names in their order."""
        return list(self.schema.names)


def _table(name: str, columns: dict[str, pa.DataType], partition_by: tuple[str, ...] = ()) -> Table:
    return Table(name, pa.schema(list(columns.items())), partition_by)


CLASSES: Final = _table(
    "classes",
    {
        LABEL_MID: _STRING,
        CLASS_NAME: _STRING,
        PARENT_MIDS: pa.list_(_STRING),
        NUM_BOXES_TRAIN: _LONG,
        NUM_BOXES_VALIDATION: _LONG,
        NUM_BOXES_TEST: _LONG,
    },
)
PHOTOS: Final = _table(
    "photos",
    {
        IMAGE_ID: _STRING,
        SUBSET: _STRING,
        ORIGINAL_URL: _STRING,
        THUMBNAIL_URL: _STRING,
        ORIGINAL_SIZE_BYTES: _LONG,
        ORIGINAL_MD5_BASE64: _STRING,
        ROTATION_DEG: _INT,
        **_ATTRIBUTION,
    },
    partition_by=(SUBSET,),
)
BOXES: Final = _table(
    "boxes",
    {
        BOX_ID: _STRING,
        IMAGE_ID: _STRING,
        SUBSET: _STRING,
        LABEL_MID: _STRING,
        **_CORNERS,
        SOURCE: _STRING,
        CONFIDENCE: _DOUBLE,
        **_FLAGS,
    },
    partition_by=(SUBSET,),
)
REJECTED_ROWS: Final = _table(
    "rejected_rows",
    {
        TABLE: _STRING,
        SUBSET: _STRING,
        FILE: _STRING,
        LINE: _LONG,
        TEXT: _STRING,
        REASON: _STRING,
    },
)
SELECTED_BOXES: Final = _table(
    "selected_boxes",
    {
        DATASET: _STRING,
        BOX_ID: _STRING,
        IMAGE_ID: _STRING,
        SUBSET: _STRING,
        LABEL_MID: _STRING,
        CATEGORY: _STRING,
        **_CORNERS,
        **_FLAGS,
        REJECT_REASON: _STRING,
    },
    partition_by=(DATASET,),
)
CROPS: Final = _table(
    "crops",
    {
        RECIPE_ID: _STRING,
        HAS_CROP: _BOOL,
        BOX_ID: _STRING,
        IMAGE_ID: _STRING,
        LABEL_MID: _STRING,
        **_CORNERS,
        STATUS: _STRING,
        DETAIL: _STRING,
        JPEG: _BYTES,
        WIDTH_PX: _INT,
        HEIGHT_PX: _INT,
        PHOTO_WIDTH_PX: _INT,
        PHOTO_HEIGHT_PX: _INT,
        SOURCE_BOX_WIDTH_PX: _INT,
        SOURCE_BOX_HEIGHT_PX: _INT,
        SOURCE: _STRING,
        HTTP_STATUS: _INT,
        ATTEMPT: _INT,
        PHOTO_SHA256: _STRING,
        PHOTO_DHASH: _LONG,
        PHOTO_COLORS: _BYTES,
        **_ATTRIBUTION,
        FETCHED_AT: _TIME,
        RUN_ID: _STRING,
    },
    partition_by=(RECIPE_ID, HAS_CROP),
)
EXAMPLES: Final = _table(
    "examples",
    {
        DATASET: _STRING,
        SPLIT: _STRING,
        EXAMPLE_ID: _STRING,
        BOX_ID: _STRING,
        IMAGE_ID: _STRING,
        SUBSET: _STRING,
        LABEL_INDEX: _INT,
        CATEGORY: _STRING,
        IMAGE: _BYTES,
        WIDTH_PX: _INT,
        HEIGHT_PX: _INT,
        BOX_AREA_FRAC: _DOUBLE,
        **_FLAGS,
        **_ATTRIBUTION,
        REJECT_REASON: _STRING,
    },
    partition_by=(DATASET, SPLIT),
)
NEAR_DUPLICATES: Final = _table(
    "near_duplicates",
    {DATASET: _STRING, IMAGE_ID: _STRING, GROUP_ID: _STRING},
    partition_by=(DATASET,),
)
EMBEDDINGS: Final = _table(
    "embeddings",
    {
        NETWORK_DIGEST: _STRING,
        NETWORK: _STRING,
        RECIPE_ID: _STRING,
        BOX_ID: _STRING,
        IMAGE_ID: _STRING,
        VECTOR: pa.list_(pa.float32()),
        RUN_ID: _STRING,
    },
    partition_by=(NETWORK_DIGEST,),
)
FORGOTTEN_PHOTOS: Final = _table(
    "forgotten_photos", {IMAGE_ID: _STRING, FORGOTTEN_AT: _TIME, RUN_ID: _STRING}
)
RUNS: Final = _table(
    "runs",
    {
        RUN_ID: _STRING,
        JOB: _STRING,
        DATASET: _STRING,
        SETTINGS: _STRING,
        SETTINGS_HASH: _STRING,
        TABLES_READ: _VERSIONS,
        TABLES_WRITTEN: _VERSIONS,
        COUNTS: _VERSIONS,
        MODEL_ID: _STRING,
        STARTED_AT: _TIME,
        ENDED_AT: _TIME,
        OUTCOME: _STRING,
        DETAIL: _STRING,
    },
)
EVALUATIONS: Final = _table(
    "evaluations",
    {
        RUN_ID: _STRING,
        MODEL_ID: _STRING,
        DATASET: _STRING,
        SPLIT: _STRING,
        SLICE: _STRING,
        METRIC: _STRING,
        CATEGORY: _STRING,
        PREDICTED_CATEGORY: _STRING,
        OTHER_MODEL_ID: _STRING,
        VALUE: _DOUBLE,
    },
)
PREDICTIONS: Final = _table(
    "predictions",
    {
        RUN_ID: _STRING,
        PATH: _STRING,
        MODEL_ID: _STRING,
        STATUS: _STRING,
        DETAIL: _STRING,
        WIDTH_PX: _INT,
        HEIGHT_PX: _INT,
        CATEGORY: _STRING,
        PROBABILITY: _DOUBLE,
        PROBABILITIES: pa.map_(_STRING, _DOUBLE),
        PREDICTED_AT: _TIME,
    },
)

ALL_TABLES: Final = (
    CLASSES,
    PHOTOS,
    BOXES,
    REJECTED_ROWS,
    SELECTED_BOXES,
    CROPS,
    NEAR_DUPLICATES,
    EXAMPLES,
    EMBEDDINGS,
    FORGOTTEN_PHOTOS,
    RUNS,
    EVALUATIONS,
    PREDICTIONS,
)
