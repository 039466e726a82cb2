"""Settings: the models, their loading from YAML, their reference."""

from croplake.conf.dataset import (
    DatasetSpec,
    FlagRule,
    FlagsSpec,
    HashShares,
    NearDuplicatesSpec,
)
from croplake.conf.inference import ClassifyConf, EvaluateConf, ProbeConf, SimilarConf
from croplake.conf.models import (
    CatalogConf,
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
)
from croplake.conf.training import (
    AugmentConf,
    EarlyStoppingConf,
    PhaseConf,
    PlateauConf,
    TrainConf,
)

__all__ = [
    "AugmentConf",
    "CatalogConf",
    "ClassifyConf",
    "DatasetSpec",
    "EarlyStoppingConf",
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
    "PhaseConf",
    "PlanConf",
    "PlateauConf",
    "ProbeConf",
    "RecipeConf",
    "Settings",
    "SimilarConf",
    "SourceName",
    "SparkConf",
    "TrainConf",
]
