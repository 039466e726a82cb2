"""Settings: the models, their loading from YAML, their reference."""

from croplake.conf.dataset import (
    DatasetSpec,
    FlagRule,
    FlagsSpec,
    HashShares,
    NearDuplicatesSpec,
)
from croplake.conf.models import (
    AugmentConf,
    CatalogConf,
    ClassifyConf,
    EvaluateConf,
    ExamplesConf,
    FetchConf,
    LakeConf,
    MaintainConf,
    MiniatureConf,
    PlanConf,
    RecipeConf,
    Settings,
    SourceName,
    SparkConf,
    TrainConf,
)

__all__ = [
    "AugmentConf",
    "CatalogConf",
    "ClassifyConf",
    "DatasetSpec",
    "EvaluateConf",
    "ExamplesConf",
    "FetchConf",
    "FlagRule",
    "FlagsSpec",
    "HashShares",
    "LakeConf",
    "MaintainConf",
    "MiniatureConf",
    "NearDuplicatesSpec",
    "PlanConf",
    "RecipeConf",
    "Settings",
    "SourceName",
    "SparkConf",
    "TrainConf",
]
