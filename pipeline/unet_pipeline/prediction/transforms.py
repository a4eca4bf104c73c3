"""The engine `transforms`: MONAI's components as the bundle's config says, for pictures, hand-edited bundles and external ones.

What a sample goes through is the config's: preprocessing, inferer, postprocessing, and its writer. Probabilities of the whole image are held.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import FolderLayout, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, SaveImage, SaveImaged, Spacingd

from unet_pipeline.boundary import describe_failure, is_out_of_memory, list_causes
from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.instance_maps import INSTANCES
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.writing import fits_png
from unet_pipeline.errors import PipelineError, PredictionError
from unet_pipeline.messages import WARNING, Message, Problem
from unet_pipeline.prediction.engine import CPU, Case, CasePrediction
from unet_pipeline.prediction.out_of_memory import release_cached_memory
from unet_pipeline.prediction.outputs import write_volume
from unet_pipeline.prediction.parts import Parts
from unet_pipeline.prediction.recipe import begins_as_planned, list_image_transforms
from unet_pipeline.types import IMAGE, PRED

MOVED = Message(
    "result-moved",
    WARNING,
    "has its result on the bundle's own grid; it was taken to the image's, by the nearest neighbour",
    "The bundle's postprocessing lacks Invertd: borders are as coarse as that grid.",
)
_AFFINE_TOLERANCE_MM = 1e-2


@dataclass(frozen=True)
class TransformsEngine:
    """For every image that the bundle's own transforms take.

    Attributes:
        parts: of the bundle.
        to_probabilities: behind the network; of several networks their results are averaged.
        to_values: behind those, up to the writer.
        saver: the bundle's own writer.
        image_key: of the sample, under which the image's file stands.
        pred_key: of the sample, which is written.
        amp: half precision on a GPU, as an external bundle's evaluator may ask.
    """

    parts: Parts
    to_probabilities: Compose
    to_values: Compose
    saver: SaveImage
    image_key: str = IMAGE
    pred_key: str = PRED
    amp: bool = False

    def takes(self, grid: ImageGrid) -> bool:
        """See `Engine`."""
        return True

    def copy_for_thread(self) -> TransformsEngine:
        """See `Engine`."""
        return replace(self, parts=replace(self.parts, preprocessing=copy.deepcopy(self.parts.preprocessing)))

    def holds(self, image: MedicalImage) -> bool:
        """Whether a picture is to be predicted as it was read, because no PNG file can hold its values."""
        held = self.parts.expected.counts_pixels and not fits_png(image.array.dtype, image.array.shape[0])
        return held and begins_as_planned(self.parts.preprocessing)

    def prepare(self, case: Case) -> None:
        """See `Engine`; MONAI reads the file itself, where there is one."""
        if case.files[0].exists():
            case.image = None

    def infer(self, case: Case, with_probabilities: bool) -> CasePrediction:
        """See `Engine`."""
        try:
            with self.parts.stopwatch.measure("postprocess"):
                sample = self.predict_sample(case.files, case.image)
                probabilities = np.asarray(sample[PRED], dtype=np.float32) if with_probabilities else None
                if case.confidence is not None:
                    probability = torch.as_tensor(sample[PRED])
                    case.confidence.begin(probability.shape[1:])
                    deque(case.confidence.watch([probability], lambda whole: whole), maxlen=0)
                finished = self.to_values(sample)
                instances = np.asarray(finished[INSTANCES])[0] if INSTANCES in finished else None
                return CasePrediction(finished[self.pred_key], probabilities, instances)
        except Exception as error:
            if self.parts.expected.is_planned or isinstance(error, PipelineError):
                raise
            raise _explain(error, case) from error

    def predict_probabilities(self, image: Path) -> np.ndarray:
        """Probabilities of an image file on its own grid, shape (classes, *spatial), float32."""
        return np.asarray(self.predict_sample((image,))[PRED], dtype=np.float32)

    def choose_classes(self, probabilities: np.ndarray) -> np.ndarray:
        """Class of each voxel, shape (*spatial), by the first of a planned bundle's transforms of classes: before all post-processing."""
        sample = {self.pred_key: torch.from_numpy(probabilities)}
        return np.asarray(self.to_values.transforms[0](sample)[self.pred_key])[0]

    def predict_sample(self, files: Sequence[Path], picture: MedicalImage | None = None) -> Mapping[str, Any]:
        """The sample with probabilities on the image's own grid, averaged over the networks; of an external bundle what its network gives.

        Args:
            files: the image, or one file per channel; only the name counts where there is a `picture`.
            picture: the image as it was read.
        """
        if picture is None:
            paths = str(files[0]) if len(files) == 1 else [str(file) for file in files]
            sample = self.parts.preprocessing({self.image_key: paths})
        else:
            sample = preprocess_picture(picture, files[0], self.parts.preprocessing)
        if not isinstance(sample, Mapping) or not torch.is_tensor(sample.get(self.image_key)):
            raise ValueError(f"its preprocessing gives no tensor under {self.image_key!r}")
        batch = list_data_collate([sample])
        if self.parts.image_device != CPU and self.parts.expected.is_planned:
            try:
                return self._predict_batch(dict(batch), self.parts.image_device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            release_cached_memory(self.parts.device)
            return self._predict_batch(batch, CPU)
        return self._predict_batch(batch, self.parts.image_device)

    def _predict_batch(self, batch: dict[str, Any], blended_on: torch.device) -> Mapping[str, Any]:
        images = batch[self.image_key].to(blended_on)
        half = self.amp and blended_on.type == "cuda"
        blended: dict[str, Any] = {}
        for network in self.parts.networks:
            with torch.inference_mode(), torch.autocast(blended_on.type, enabled=half):
                batch[PRED] = self.parts.inferer(images, network)
            if not self.parts.expected.is_planned:
                _require_numbers(batch[PRED])
            (item,) = decollate_batch(batch)
            item = self.to_probabilities(item)
            blended = item if not blended else {**blended, PRED: blended[PRED] + item[PRED]}
        if len(self.parts.networks) > 1:
            blended[PRED] = blended[PRED] / len(self.parts.networks)
        self.parts.settle_times()
        return blended

    def write(self, case: Case, prediction: CasePrediction, final: Path, staging: Path) -> tuple[Problem, ...]:
        """See `Engine`.

        A result on another grid than the image's, as an external bundle without Invertd leaves it, is resampled by the bundle's writer.
        """
        place = Path(tempfile.mkdtemp(dir=staging))
        self.saver.folder_layout = FolderLayout(str(place), extension=self.saver.output_ext, makedirs=True)
        own = dict(self.saver.meta_kwargs)
        moved = not self.parts.expected.is_planned and _lies_elsewhere(prediction.values)
        try:
            if not self.parts.expected.is_planned:
                self.saver.set_options(meta_kwargs={"resample": True} if moved else {})
            self.saver(prediction.values)
        except Exception as error:
            if self.parts.expected.is_planned:
                raise
            raise _explain(error, case) from error
        finally:
            self.saver.set_options(meta_kwargs=own)
        (written,) = place.iterdir()
        _finish_output(written, case.files[0], case.spatial_shape, final)
        return (MOVED.about(case.source.files[0].name),) if moved and not own.get("resample") else ()


def _explain(error: Exception, case: Case) -> PredictionError:
    """What an external bundle's own transforms raised, whatever it is."""
    shown = case.source.files[0].name
    if any(map(is_out_of_memory, list_causes(error))):
        return PredictionError(
            f"{shown} does not fit into the memory of this machine. See that the spacing in its header is right, crop it, or predict it "
            "on a machine with more."
        )
    cause = describe_failure(error.__cause__ or error, 300).replace(str(case.files[0].parent), "").rstrip(".")
    return PredictionError(f"{shown} cannot be predicted by the bundle: {cause}. Ask its makers.")


def measure_resampled(preprocessing: Any, grid: ImageGrid) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Shape and voxel size in mm of a volume behind a bundle's Spacingd; None without one, and where it says no size."""
    transforms = Compose([preprocessing]).flatten().transforms
    resampling = next((transform for transform in transforms if isinstance(transform, Spacingd)), None)
    pixdim = () if resampling is None else tuple(float(size) for size in np.ravel(resampling.spacing_transform.pixdim))
    if len(grid.spatial_shape) != 3 or len(pixdim) < 3 or not all(size > 0 for size in pixdim[:3]):
        return None
    # in the order of the world's axes, which an Orientationd puts them in first
    worlds = np.abs(grid.affine[:3, :3]).argmax(axis=0)
    spacing_mm = tuple(pixdim[world] for world in worlds)
    sizes = zip(grid.spatial_shape, grid.spacing_mm, spacing_mm, strict=True)
    return tuple(max(1, round((size - 1) * own / new) + 1) for size, own, new in sizes), spacing_mm


def find_saver(transforms: Sequence[Any]) -> tuple[list[Any], SaveImage, str]:
    """What comes in front of a bundle's writer without other writers, the writer, and the key of the sample that it writes."""
    savers = [transform for transform in transforms if isinstance(transform, SaveImaged)]
    chosen = next((one for one in savers if PRED in one.keys), savers[0] if savers else None)
    if chosen is None:
        return list(transforms), SaveImage(separate_folder=False, print_log=False), PRED
    before = [one for one in transforms[: transforms.index(chosen)] if one not in savers]
    saver = chosen.saver
    saver.set_options(write_kwargs={"verbose": False})
    if (saver.output_ext or ".nii.gz").startswith(".nii"):  # an axis of one voxel is one of the image's
        saver.set_options(data_kwargs={"squeeze_end_dims": False})
    return before, saver, PRED if PRED in chosen.keys else str(chosen.keys[0])


def _require_numbers(output: Any) -> None:
    """Whether a network gave numbers; of NaN every later step makes a class.

    Raises:
        ValueError: some are none.
    """
    if torch.is_tensor(output) and not bool(torch.isfinite(output).all()):
        raise ValueError(
            "its network gives values that are NaN or infinite; its weights or the image's values are out of range"
        )


def _lies_elsewhere(result: Any) -> bool:
    """Whether a result is on another grid than the image that it came from."""
    if not isinstance(result, MetaTensor) or "original_affine" not in result.meta:
        return False
    shape = tuple(int(size) for size in result.meta.get("spatial_shape", result.shape[1:]))
    affine = torch.as_tensor(result.meta["original_affine"])
    dims = len(result.shape) - 1
    same = torch.allclose(result.affine[:dims].double(), affine[:dims].double(), rtol=0, atol=_AFFINE_TOLERANCE_MM)
    return tuple(result.shape[1:]) != shape[:dims] or not same


def _finish_output(written: Path, image: Path, spatial_shape: tuple[int, ...], final: Path) -> None:
    """Give a file that the bundle's writer made its final name, once it is on the image's grid.

    Going through the target spacing and back moves the affine by rounding errors; a NIfTI file therefore gets exactly the header of the
    image. Whole values up to 255 are written as uint8; structures that may overlap, a channel for each, lie along the last axis.

    Raises:
        PredictionError: it is on another grid.
    """
    in_nifti = image_suffix(written).startswith(".nii")
    values = np.asarray(nib.load(written).dataobj) if in_nifti else read_image(written).array[0]
    while in_nifti and values.ndim > len(spatial_shape) and values.shape[-1] == 1:  # as MONAI writes 2D label maps
        values = values[..., 0]
    if values.shape[: len(spatial_shape)] != tuple(spatial_shape):
        raise PredictionError(
            f"The bundle wrote a result of shape {values.shape} for {image.name}; expected the image's grid, {tuple(spatial_shape)}. Its "
            "postprocessing does not lead back to it."
        )
    if in_nifti and image_suffix(image).startswith(".nii"):
        whole = values.size == 0 or (
            values.min() >= 0 and values.max() <= 255 and np.array_equal(values, np.rint(values))
        )
        write_volume(final, values.astype(np.uint8 if whole else np.float32), image)
    else:
        os.replace(written, final)


def preprocess_picture(image: MedicalImage, name: Path, preprocessing: Compose) -> dict[str, Any]:
    """The sample that the bundle's preprocessing makes of a picture, read already.

    Args:
        image: shape (channels, width, height).
        name: of the file, after which the label map is named.
        preprocessing: of the bundle, that begins as `plan` writes it.
    """
    array = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))
    loaded = MetaTensor(array, affine=torch.eye(4, dtype=torch.float64))
    loaded.meta["filename_or_obj"] = str(name)
    return Compose(list_image_transforms(preprocessing)[2:])({IMAGE: loaded})
