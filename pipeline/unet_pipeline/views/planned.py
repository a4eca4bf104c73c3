"""Summaries of plans and of their networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_pipeline.evidence.report.network_drawing import (
    Description,
    describe_network,
    draw_network,
    list_rows,
    plot_network,
    summarize_network,
)
from unet_pipeline.views.summary import Picture, Summary, Table, count, join_size

if TYPE_CHECKING:
    from unet_pipeline.planning.plan import Plan
    from unet_pipeline.verbs.import_nnunet import ImportedFolder
    from unet_pipeline.verbs.plan import PlannedFolder


def _summarize_description(description: Description) -> Summary:
    words = summarize_network(description)
    return Summary(
        f"{description.network}: {words[0]}, patch of {join_size(description.patch_size)}",
        tables=(
            Table(
                "levels", ("level", "part", "channels", "kernels", "output", "parameters"), list_rows(description), 5
            ),
        ),
        pictures=(_picture(description),),
        notes=words[1:],
    )


def _picture(description: Description) -> Picture:
    alt = f"the network {description.network}, level by level"
    return Picture(alt, lambda: plot_network(description), draw_network(description))


def _summarize_plan(plan: Plan) -> Summary:
    dims = f"{plan.spatial_dims}D"
    return Summary(
        f"{plan.dataset_name}: {plan.network_name}, {dims}, patch of {join_size(plan.patch_size)}, "
        f"{count(plan.num_epochs, 'epoch')}",
        {
            "preset": plan.preset,
            "labels": ", ".join(f"{name} = {value}" for name, value in plan.label_table.items()),
            "grid": f"{join_size(plan.spacing_mm)} mm" if plan.axcodes else f"{join_size(plan.spacing_mm)} pixels",
            "patch and batch": f"{join_size(plan.patch_size)}, {plan.batch_size}",
            "training": f"{count(plan.num_epochs, 'epoch')} of {count(plan.iterations_per_epoch, 'iteration')}",
            "folds": plan.num_folds,
        },
        pictures=(_picture(describe_network(plan)),),
    )


def _summarize_planned(planned: PlannedFolder) -> Summary:
    summary = _summarize_plan(planned.plan)
    return Summary(
        f"{planned.bundle.name} from {summary.line}",
        {"bundle": planned.bundle.name, **summary.facts, "cases": len(planned.report.dataset.cases)},
        pictures=summary.pictures,
        notes=("The reason for each number stands beside it in configs/plan.yaml. Next: train.",),
    )


def _summarize_imported(imported: ImportedFolder) -> Summary:
    summary = _summarize_plan(imported.plan)
    facts = {"bundle": imported.bundle.name, **summary.facts, "folds": len(imported.epochs)}
    line = f"{imported.bundle.name} from nnU-Net's {summary.line}"
    return Summary(line, facts, pictures=summary.pictures, notes=imported.describe_differences())


SUMMARIES = {
    "Description": _summarize_description,
    "Plan": _summarize_plan,
    "PlannedFolder": _summarize_planned,
    "ImportedFolder": _summarize_imported,
}
