"""What results show of themselves: one line, a page, figures; and what the package offers."""

from __future__ import annotations

import base64
import io
import re
import webbrowser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.tiles import Tile
from unet_pipeline.errors import DatasetError
from unet_pipeline.evaluation.comparison import ComparisonRecord, ComparisonRow
from unet_pipeline.progress import progress_bar, say_progress
from unet_pipeline.results import Result
from unet_pipeline.training.run import TrainingRun
from unet_pipeline.views import page
from unet_pipeline.views.pictures import draw_differences, draw_reliability, draw_scores, draw_tiles
from unet_pipeline.views.summary import Summary, Table

from .phantom_bundles import draw_cell, write_pictures, write_volumes

# say what they are as they were; a view of an image shows itself by IPython's own means
PAPER_TYPES = ("BundleFolder", "CurveDesign", "ImageView", "PipelineError", "ReadOptions", "ValidationAim")


def make_run(folder: Path, epochs: str = '[{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5}]') -> TrainingRun:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(f'{{"epochs": {epochs}}}', encoding="utf-8")
    return TrainingRun(0, folder / "model.pt", folder, 2, 2, 0.8125, 65.0)


def count_pictures(html: str) -> int:
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', html)
    for _, content in pictures:
        PillowImage.open(io.BytesIO(base64.b64decode(content))).load()
    return len(pictures)


# the package


def test_dir_shows_verbs_functions_and_types_only() -> None:
    import unet_pipeline.dataset.check

    shown = {name for name in dir(unet_pipeline) if not name.startswith("_")}
    verbs = {name for names in unet_pipeline.VERBS.values() for name in names}
    assert shown == verbs | set(unet_pipeline.FUNCTIONS) | set(unet_pipeline.TYPES)
    assert not {"import_module", "sys", "annotations", "dataset"} & shown
    assert all(callable(getattr(unet_pipeline, name)) for name in shown)


@pytest.mark.parametrize("name", sorted({*unet_pipeline.TYPES} - {*PAPER_TYPES}))
def test_type_of_a_verb_shows_itself(name: str) -> None:
    kind = getattr(unet_pipeline, name)
    assert issubclass(kind, Result)
    assert kind.__repr__ is Result.__repr__
    assert kind.__str__ is Result.__str__
    module = import_module(f"unet_pipeline.views.{page._MODULES[name]}")
    assert callable(module.SUMMARIES[name])


def test_every_summary_is_of_a_public_type() -> None:
    assert set(page._MODULES) == {*unet_pipeline.TYPES} - {*PAPER_TYPES}


# progress


def test_show_progress_silences_bars_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    unet_pipeline.show_progress(False)
    try:
        with progress_bar("check", 1) as bar:
            bar.advance()
            bar.report("a line")
        say_progress("weights")
        assert capsys.readouterr() == ("", "")
    finally:
        unet_pipeline.show_progress()
    with progress_bar("check", 1) as bar:
        bar.advance()
    say_progress("weights")
    out, err = capsys.readouterr()
    assert not out
    assert "check: 1/1" in err
    assert err.endswith("weights\n")


# results


def test_check_report_is_short_as_text_and_has_pictures(tmp_path: Path) -> None:
    report = unet_pipeline.check(write_volumes(tmp_path / "organs", 3))
    assert repr(report) == str(report) == "CheckReport(organs: 3 cases, 3D, no problem)"
    html = report._repr_html_()
    assert count_pictures(html) == 2
    assert "organ = 1, tumour = 2" in html
    assert str(tmp_path) not in html
    assert [len(figure.axes) for figure in report.figures()] == [3, 1]


def test_check_report_of_a_damaged_folder_lists_what_is_wrong(tmp_path: Path) -> None:
    (write_volumes(tmp_path / "organs", 3) / "labelsTr" / "organ_01.nii.gz").write_bytes(b"")
    report = unet_pipeline.check(tmp_path / "organs")
    assert repr(report) == "CheckReport(organs: 3 cases, 1 error)"
    assert "labelsTr/organ_01.nii.gz" in report._repr_html_()


def test_planned_folder_shows_its_network(tmp_path: Path) -> None:
    planned = unet_pipeline.plan(write_volumes(tmp_path / "organs", 3), tmp_path / "b", preset="quick", folds=3)
    assert re.fullmatch(r"PlannedFolder\(b from organs: dynunet, 3D, patch of [\d ×]+, \d+ epochs\)", repr(planned))
    assert repr(planned.plan).startswith("Plan(organs: dynunet, 3D")
    assert "<svg" in planned._repr_html_()
    assert "bottleneck" in planned._repr_html_()
    described = unet_pipeline.describe(tmp_path / "b")
    assert repr(described).startswith("Description(dynunet: ")
    assert len(described.figures()) == 1


def test_training_run_draws_its_epochs(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", '[{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5, "dice_resampled_grid": 0.8}]'
    )
    assert repr(run) == "TrainingRun(fold 0: 2 epochs in 1:05, Dice 0.812 at epoch 2)"
    (figure,) = run.figures()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss of the training", "Dice of the validation"]
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.9, 0.5]


def test_result_whose_file_is_gone_says_so_in_its_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    html = run._repr_html_()
    assert count_pictures(html) == 0
    assert "run.json does not exist" in html


def test_save_as_html_and_open_in_browser_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    run = make_run(tmp_path / "run")
    text = run.save_as_html(tmp_path / "pages" / "run.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "prefers-color-scheme:dark" in text
    assert count_pictures(text) == 1
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    shown = run.open_in_browser(str(tmp_path / "shown.html"))
    assert opened == [shown.as_uri()]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run.open_in_browser().read_text(encoding="utf-8") == text


def test_texts_of_others_are_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = Table("<i>", ("<b>",), [("<script>",)], num_left_out=2)
    summary = Summary("<a>", {"<dt>": "<dd>"}, (table,), notes=("<p id>",))
    monkeypatch.setattr(page, "summarize", lambda result: summary)
    html = make_run(tmp_path)._repr_html_()
    assert "&lt;script&gt;" in html
    assert not re.search(r"<(script|i|b|a|p id)>", html)
    assert "and 2 more" in html


def test_repr_of_a_half_built_result_does_not_fail() -> None:
    assert repr(TrainingRun.__new__(TrainingRun)).startswith("<")


# images and figures


def test_image_is_read_and_drawn_by_public_functions(tmp_path: Path) -> None:
    picture, mask = draw_cell(0)
    for name, array in (("cell.png", picture), ("mask.png", mask)):
        PillowImage.fromarray(array).save(tmp_path / name)
    image = unet_pipeline.read_image(str(tmp_path / "cell.png"))
    assert repr(image).startswith("MedicalImage(72 × 52 pixels, 1 channel, uint8 from ")
    labels = unet_pipeline.read_label_map(str(tmp_path / "mask.png"))
    assert len(unet_pipeline.draw_overlay(image).axes) == 1
    figure = unet_pipeline.draw_overlay(image, labels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["value 255"]
    named = unet_pipeline.draw_overlay(image, {"reference": labels, "prediction": labels}, {"rest": 0, "cell": 255})
    assert [axes.get_title() for axes in named.axes] == ["reference", "prediction"]
    other = MedicalImage(labels.array[:, :-1], labels.affine, labels.spacing_mm)
    with pytest.raises(DatasetError, match=r"shape \(71, 52\), and its image \(72, 52\)"):
        unet_pipeline.draw_overlay(image, other)


@pytest.mark.parametrize(("unit", "title"), [("ml", "Volume error"), ("pixel", "Area error")])
def test_first_line_of_a_comparison_names_metric_and_unit(unit: str, title: str) -> None:
    row = dict.fromkeys(("mean_a", "mean_b", "low", "high", "effect_size", "share_better", "share_worse"), 1.0)
    row |= {"label": "cell", "metric": "volume_error", "unit": unit, "n": 2, "num_patients": 2, "num_undefined": 0}
    line = ComparisonRow(**row, difference=12.5, p_value=0.5, better="")
    names = {"a": "old", "b": "new", "title_a": "set", "title_b": "set", "grid": "native", "num_cases": 2}
    record = ComparisonRecord.model_construct(rows=[line], notes=[], **names)
    assert repr(record) == f"ComparisonRecord(new minus old: 2 cases in both, +12.50 {unit} {title})"
    assert record.figures()[0].axes[0].get_xlabel() == f"{title}, {unit}: new minus old"


def test_metric_titles_are_chosen_in_one_place() -> None:
    """A title that is taken from the table itself calls an area a volume."""
    modules = Path(unet_pipeline.__file__).parent.rglob("*.py")
    own = {path.name for path in modules if re.search(r"METRICS\[[^]]+\]\.title", path.read_text(encoding="utf-8"))}
    assert own == {"metric_table.py"}


def test_figures_show_the_numbers() -> None:
    rows = pd.DataFrame({"label": ["a", "a", "b"], "dice": [0.5, 0.7, np.nan]})
    (panel,) = draw_scores(rows, ["a", "b"], {"a": (0.6, 0.5, 0.7)}).axes
    assert list(panel.lines[0].get_ydata()) == [0.5, 0.7]
    assert list(panel.lines[1].get_ydata()) == []
    assert list(panel.lines[2].get_ydata()) == [0.5, 0.7]  # the interval
    assert list(panel.lines[3].get_ydata()) == [0.6]
    row = SimpleNamespace(label="a", difference=0.1, low=0.05, high=0.2, better="b")
    (panel,) = draw_differences([row], "Dice", "first", "second").axes
    assert panel.get_xlabel() == "Dice: second minus first"
    (panel,) = draw_reliability({"temperature 1": [(0.2, 0.1), (0.9, 0.8)]}).axes
    assert list(panel.lines[1].get_xdata()) == [0.2, 0.9]
    tiles = [Tile(f"case {number}", ()) for number in range(20)]
    assert len(draw_tiles(tiles).axes) == 12


def test_page_is_titled_in_words(tmp_path: Path) -> None:
    written = unet_pipeline.check(write_pictures(tmp_path / "cells", 2)).save_as_html(tmp_path / "page.html")
    assert "<title>Check report: cells: 2 cases" in written.read_text(encoding="utf-8")
