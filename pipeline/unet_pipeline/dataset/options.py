"""What a user may say about how a dataset is to be read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReadOptions(BaseModel):
    """Options of `check` and `plan`; the bundle's manifest keeps them, so that `evaluate` reads references the same way.

    Attributes:
        layout: name of the layout, when it is not to be found by looking.
        copy_header: take the image's header for a label of the same shape that claims to lie elsewhere.
        resample_labels: resample a label that covers its image on another grid, nearest neighbour.
        pages_as_slices: a TIFF file of several pages is a volume.
        follow_links: links may lead out of the dataset, as those of DVC, datalad and git-annex do.
        labels_are_instances: every object of a label map has a value of its own; seen by the values, if None.
        overlaps: masks of one case may overlap; each structure is a region then.
        patient_pattern: regular expression whose first group is the patient's part of a case name.
        missing_channels: names of the channels that a case may lack, or "any"; empty for none.
        site_column: column of the list of cases with the site of each; every site is a fold of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: str | None = None
    copy_header: bool = False
    resample_labels: bool = False
    pages_as_slices: bool = False
    follow_links: bool = False
    labels_are_instances: bool | None = None
    overlaps: bool = False
    patient_pattern: str | None = None
    site_column: str | None = None
    missing_channels: tuple[str, ...] = ()
