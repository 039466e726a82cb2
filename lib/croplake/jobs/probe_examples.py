"""The baseline: a linear classifier on a network's vectors of the crops, in minutes.

examples → embeddings (a row a crop and network), evaluations
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import pyarrow.dataset as pads
from rich.table import Table

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.evaluation.evaluated import evaluation_rows
from croplake.evaluation.metrics import (
    LOSS,
    MACRO_F1,
    TOP1,
    TOP5,
    Metrics,
    measure_tally,
)
from croplake.evaluation.tally import Tally
from croplake.inference.embed_spark import about_network
from croplake.inference.embedding import EmbedRun
from croplake.inference.linear_head import LinearHead, train_head
from croplake.inference.vectors import (
    StoredVectors,
    choose_examples,
    load_examples,
    stream_examples,
)
from croplake.jobs.context import Job, JobContext
from croplake.jobs.embed_crops import (
    embed_missing,
    kept_examples,
    of_examples,
    of_other_crops,
    recipe_of_examples,
)
from croplake.jobs.probe_baseline import PROBE, SameExamples, evaluated_model, has_learned
from croplake.jobs.probe_network import choose_network
from croplake.jobs.select_boxes import dataset_labels
from croplake.summary import titled

SPLIT: Final = "test"
"""What a probe is measured on."""


def run(context: JobContext) -> None:
    """`examples` of the dataset → `embeddings`, and the probe's figures in `evaluations`.

    Raises:
        InputDataError: the dataset has no examples to learn from or to measure on, or the network
            does not do.
        SettingsError: there is no such network.
        IncompleteError: ImageNet weights can not be had.
    """
    categories = _categories(context)
    version = context.read[t.EXAMPLES.name]
    examples = kept_examples(context, version)
    recipe_id = recipe_of_examples(context, examples, context.settings.dataset.name)
    tested = examples.where(f"{t.SPLIT} = '{SPLIT}'").select(t.IMAGE_ID)
    network, about = choose_network(context, tested, partial(about_network, context.spark))
    context.console.print(
        f"network: {network.name}, vectors of {about.num_features:,} numbers",
        highlight=False,
        soft_wrap=True,
    )
    context.detail = network.name
    batch_size = context.settings.probe.batch_size
    embed_run = EmbedRun(context.run_id, recipe_id, network, about.digest, batch_size)
    embed_missing(context, embed_run, of_examples(context, version))
    stored = StoredVectors(
        reader=context.lake.reader,
        version=context.lake.version(t.EMBEDDINGS),
        digest=about.digest,
        network=network.name,
        run_id=context.run_id,
        num_rows=0,
    )
    head = _train(context, stored, recipe_id, about.num_features, len(categories))
    metrics = _measure(context, stored, recipe_id, about.num_features, head, categories)
    context.model_id = f"probe-{context.run_id}"
    dataset = context.settings.dataset.name
    rows = evaluation_rows(metrics.figures(), context.run_id, context.model_id, dataset, SPLIT)
    context.lake.add_rows(rows, t.EVALUATIONS)
    context.written[t.EVALUATIONS.name] = context.lake.version(t.EVALUATIONS)
    _print(context, metrics, head, version)
    # Last: there may be a hundred times as many, and the baseline does not wait for them.
    if context.settings.probe.crops == "all" and t.CROPS.name in context.pinned:
        embed_missing(context, embed_run, of_other_crops(context, version, recipe_id))


def _categories(context: JobContext) -> list[str]:
    """The dataset's categories, by label index.

    Raises:
        InputDataError: a split is missing, or the examples have other labels.
    """
    dataset, reader = context.settings.dataset.name, context.lake.reader
    context.read_table(t.EXAMPLES)
    version = context.read[t.EXAMPLES.name]
    keys = [t.SPLIT, t.LABEL_INDEX, t.CATEGORY]
    where = (pads.field(t.DATASET) == dataset) & (pads.field(t.SPLIT) != t.REJECTED_SPLIT)
    counts = reader.count_by(t.EXAMPLES.name, keys, version=version, where=where)
    missing = sorted({"train", SPLIT} - {split for split, _, _ in counts})
    if missing:
        raise InputDataError(
            f"dataset {dataset}: no example in its split {' nor '.join(missing)}; a probe learns "
            f"from train and is measured on {SPLIT}; build_examples comes first"
        )
    labels = dataset_labels(context)
    wrong = sorted({(index, name) for _, index, name in counts} - set(enumerate(labels)))
    if wrong:
        index, name = wrong[0]
        raise InputDataError(
            f"dataset {dataset}: its examples have {name!r} as label {index}, by the catalog as it "
            "is now it is another; run build_examples again"
        )
    return labels


def _train(
    context: JobContext,
    stored: StoredVectors,
    recipe_id: str,
    num_features: int,
    num_categories: int,
) -> LinearHead:
    dataset, version = context.settings.dataset.name, context.read[t.EXAMPLES.name]
    loaded = []
    for split in ("train", "validation"):
        chosen = choose_examples(
            stored.reader,
            version,
            dataset,
            split,
            at_most=context.settings.probe.max_examples,
        )
        loaded.append(load_examples(stored, chosen, recipe_id, num_features))
        context.counts[f"{split} examples"] = len(loaded[-1].labels)
    train, validation = loaded
    if not len(train.labels):
        raise InputDataError(f"dataset {dataset}: no training example has a vector")
    return train_head(train, validation, num_categories)


def _measure(
    context: JobContext,
    stored: StoredVectors,
    recipe_id: str,
    num_features: int,
    head: LinearHead,
    categories: list[str],
) -> Metrics:
    version = context.read[t.EXAMPLES.name]
    chosen = choose_examples(stored.reader, version, context.settings.dataset.name, SPLIT)
    total, num_scored = Tally.empty(len(categories)), 0
    for examples in stream_examples(stored, chosen, recipe_id, num_features):
        total += Tally.of(head.probabilities(examples.vectors), examples.labels)
        num_scored += len(examples.labels)
    num_unscored = len(chosen.labels) - num_scored
    context.counts[f"{SPLIT} examples"] = num_scored
    return measure_tally(replace(total, num_unscored=num_unscored), categories)


def _print(context: JobContext, metrics: Metrics, head: LinearHead, version: int) -> None:
    network = str(context.detail)
    examples = SameExamples(context.lake.reader, context.settings.dataset.name, version)
    rows = {f"linear on {network}": metrics.overall}
    beside = evaluated_model(examples, SPLIT)
    if beside is not None:
        rows[beside[0]] = beside[1]
    table = Table()
    table.add_column(f"measured on {SPLIT}", overflow="fold")
    names = {"top-1": TOP1, "top-5": TOP5, "macro F1": MACRO_F1, "loss": LOSS}
    for name in names:
        table.add_column(name, justify="right")
    for name, figures in rows.items():
        table.add_row(
            name,
            *(f"{figures[key]:.2%}" if key in figures else "–" for key in (TOP1, TOP5)),
            *(f"{figures[key]:.4f}" if key in figures else "–" for key in (MACRO_F1, LOSS)),
        )
    context.console.print(titled(f"probe_examples: {context.model_id}", table))
    told = f"{metrics.num_examples:,} examples"
    if metrics.num_unscored:
        told += f", {metrics.num_unscored:,} more without a vector"
    what = (
        "no baseline, for the network has learned from these examples"
        if has_learned(network, examples)
        else "the baseline that a full training must beat"
    )
    context.console.print(
        f"{what}: {SPLIT} top-1 {metrics.top1:.2%} ({told}; "
        f"penalty {head.strength:g}, {head.num_steps} steps), by {network}",
        highlight=False,
        soft_wrap=True,
    )


JOB = Job(
    name=PROBE,
    run=run,
    writes=(t.EMBEDDINGS, t.EVALUATIONS),
    reads=(t.CLASSES, t.CROPS, t.EXAMPLES),
    follows=("build_examples",),
    conf_of=lambda settings: settings.probe,
)
