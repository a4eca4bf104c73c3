"""Messages of the NIfTI reader about headers, grids and voxels."""

from __future__ import annotations

from unet_pipeline.messages import ERROR, NOTE, WARNING, Message

FORMS_DIFFER = Message(
    "nifti-forms-differ",
    WARNING,
    "has two affines that {difference}; the sform is used, as nibabel and MONAI do",
    "See that the sform is right (programs that take the qform place the image elsewhere), and write both alike.",
)
NO_FORM = Message(
    "nifti-no-affine",
    WARNING,
    "has neither sform nor qform (both codes are 0); the grid is made from the voxel size alone, and the orientation is a guess",
    "Convert it again from its source with the orientation, or see that left and right are where they should be.",
)
SHEAR = Message(
    "nifti-shear",
    WARNING,
    "has axes that are not orthogonal: {angle:.2f} degrees between two of them; expected 90",
    "Resample it to an orthogonal grid, or see that the shear is meant (a tilted gantry); `predict` takes up to 0.5 degrees.",
)
BAD_PIXDIM = Message(
    "nifti-voxel-size",
    ERROR,
    "has the voxel size {found} mm in its header, which its grid is made from; expected numbers above 0",
    "Correct the header (pixdim), or convert the image again from its source.",
)
ODD_PIXDIM = Message(
    "nifti-odd-voxel-size",
    WARNING,
    "has the voxel size {found} mm in its header; {taken}",
    "Correct the header (pixdim): other programs may understand it differently.",
)
UNIT = Message(
    "nifti-unit",
    WARNING,
    "says that its lengths are in {unit}s; they were converted, which makes voxels of {found} mm",
    "See that this is their size; if the numbers are mm already, correct xyzt_units in the header.",
)
ODD_UNIT = Message(
    "nifti-odd-unit",
    ERROR,
    "says that its lengths are in {unit}s, which would make voxels of {found} mm; expected less than {most:g} mm",
    "Correct xyzt_units in the header: 2 means mm.",
)
NO_PLACE = Message(
    "nifti-affine",
    ERROR,
    "has an affine that is no grid: it has no inverse, or numbers that are NaN or infinite, so its voxels have no place in the world",
    "Correct the header (sform, qform), or convert the image again from its source.",
)
NO_ROTATION = Message(
    "nifti-quaternion",
    ERROR,
    "has a qform whose quaternion is no rotation, and no sform beside it",
    "Correct the header (quatern_b, quatern_c, quatern_d), or convert the image again from its source.",
)
ODD_OFFSET = Message(
    "nifti-voxel-offset",
    ERROR,
    "has voxels that begin at byte {given:g} by its header (vox_offset); expected {least} to {most}",
    "Correct the header, or convert the image again from its source.",
)
ODD_SLOPE = Message(
    "nifti-scaling",
    ERROR,
    "has the scaling {slope} x value + {intercept} in its header; expected numbers up to {most:g}",
    "Correct scl_slope and scl_inter, or convert the image again from its source.",
)

ANALYZE = Message(
    "analyze-orientation",
    WARNING,
    "is Analyze 7.5, whose header does not say which side is left; the first axis is taken to run to the left, as nibabel and SPM do",
    "See that left and right are where they should be, or convert it again from its source as NIfTI.",
)
COLOURS = Message(
    "nifti-colours",
    NOTE,
    "holds colours (RGB); they are read as three channels",
    "Nothing to do, if the colours are the image; grey that was saved as RGB is better saved as one channel.",
)
OPAQUE = Message(
    "nifti-opaque-alpha", NOTE, "has an alpha channel that is 255 everywhere; it is read as RGB", "Nothing to do."
)
