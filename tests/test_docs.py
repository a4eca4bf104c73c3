"""The documentation says what the code does: commands, options, links, and the recipe of the demo cohort."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import typer
import yaml

from unet_pipeline.cli import app
from unet_pipeline.dataset import demo
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.presets import PRESETS

from .documented_commands import PAGES
from .scripts import load_script

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# commands


def test_cli_page_is_what_the_script_makes() -> None:
    assert read("docs/cli.md") == load_script("docs/build_cli.py").build_cli_text(), (
        "run `.venv/bin/python docs/build_cli.py`"
    )


def test_plan_page_is_what_the_script_makes() -> None:
    made = load_script("docs/build_plan.py").build_plan_text()
    assert read("docs/reference/plan.md") == made, "run `.venv/bin/python docs/build_plan.py`"


def test_plan_page_has_every_number_in_a_group() -> None:
    page = read("docs/reference/plan.md")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(Plan.model_fields)
    assert len(re.findall("^## ", page, re.MULTILINE)) > 8


@pytest.mark.parametrize("verb", COMMANDS)
def test_cli_page_has_the_verb_with_all_its_parameters(verb: str) -> None:
    section = re.search(rf"^## {verb}\n(.*?)(?=^## |\Z)", read("docs/cli.md"), re.MULTILINE | re.DOTALL)
    assert section, f"docs/cli.md has no section {verb}"
    for parameter in COMMANDS[verb].params:
        name = (
            parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name.upper()
        )
        assert re.search(rf"^\| `{re.escape(name.strip('[].'))}\b", section[1], re.MULTILINE), name
        assert " ".join(parameter.help.split()) in section[1], name


def test_readme_names_the_commands_of_the_makefile() -> None:
    readme, makefile = read("README.md"), read("Makefile")
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_readme_names_every_verb() -> None:
    shown = set(re.findall(r"unet-pipeline ([\w-]+)", read("README.md")))
    # the demo is shown as `make demo`
    assert shown >= COMMANDS.keys() - {"demo"}


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_only_commands_that_exist(page: str) -> None:
    for verb, rest in re.findall(r"(?:^ {4}|`)unet-pipeline ([a-z][\w-]*)([^`\n#]*)", read(page), re.MULTILINE):
        assert verb in COMMANDS, verb
        options = {name for parameter in COMMANDS[verb].params for name in parameter.opts} | {"--help"}
        assert set(re.findall(r"--[\w-]+", rest)) <= options, f"{verb}{rest}"
        if preset := re.search(r"--preset (\w+)", rest):
            assert preset[1] in {*PRESETS, "PRESET"}


@pytest.mark.parametrize("page", ["engines", "object_stores", "several_gpus", "slurm"])
def test_commands_about_engines_have_all_their_arguments(page: str) -> None:
    """Also those in tables and in the file for Kubernetes, which no test runs."""
    shown = re.findall(
        r"(?:^ {4}|`|entrypoint: )unet-pipeline ([a-z][^`\n#]*)", read(f"docs/howto/{page}.md"), re.MULTILINE
    )
    assert shown
    for verb, *words in map(shlex.split, shown):
        COMMANDS[verb].make_context(verb, words)


def test_gallery_shows_every_ready_bundle_as_its_evidence_says() -> None:
    builder = load_script("docs/build_gallery.py")
    bundles = builder.list_bundles()
    assert len(bundles) >= 7
    for bundle in bundles:
        drawn = read(f"docs/gallery/{bundle.name}.svg")
        assert drawn == builder.build_drawing(bundle), "run `.venv/bin/python docs/build_gallery.py`"
        assert f":link: ../bundles/{bundle.name}/docs/README\n" in read("docs/index.md")
        assert f":img-bottom: gallery/{bundle.name}.svg\n" in read("docs/index.md")


def test_preset_help_names_the_presets() -> None:
    help_text = next(parameter.help for parameter in COMMANDS["plan"].params if parameter.name == "preset")
    assert all(name in help_text for name in PRESETS.keys() - {"demo"})


@pytest.mark.parametrize("page", PAGES)
def test_page_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
    dead = [link for link in links if not leads_somewhere((ROOT / page).parent, ROOT / page, link)]
    assert not dead


def leads_somewhere(folder: Path, page: Path, link: str) -> bool:
    """Whether a relative link has its file, and its heading if it names one; other addresses are not opened."""
    if re.match(r"[a-z]+:", link):
        return True
    name, _, heading = link.partition("#")
    target = folder / name if name else page
    if not target.exists() or not target.resolve().is_relative_to(ROOT.resolve()):
        return False
    return not heading or heading in find_headings(target)


def find_headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# data cards


CARDS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("data", "pipeline/unet_pipeline/public_data/cards")
    for path in (ROOT / folder).glob("*.yaml")
    if path.name != "decathlon_tasks.yaml"  # several sets, of which one card says what they share
)
CARD_KEYS = {
    "name",
    "what",
    "modality",
    "num_cases",
    "num_cases_development",
    "grid",
    "labels",
    "layout",
    "licence",
    "citation",
    "address",
    "notes",
}


@pytest.mark.parametrize("card", CARDS)
def test_data_card_is_complete_and_listed(card: str) -> None:
    content = yaml.safe_load(read(card))
    assert content.keys() >= CARD_KEYS
    assert content["name"].lower() == Path(card).stem or card.endswith(
        "lung_xray.yaml"
    )  # that folder has a number in front
    assert f"[{Path(card).name}](" in read("data/README.md")


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return yaml.safe_load(read("data/mni152_demo.yaml"))


def test_demo_card_constants_are_those_of_the_code(card: dict[str, Any]) -> None:
    recipe = card["recipe"]
    assert card["labels"] == demo.LABELS
    assert recipe["resolution_mm"] == demo.RESOLUTION_MM
    assert recipe["num_training_cases"] == card["num_cases_development"] == demo.NUM_TRAINING_CASES
    assert recipe["seed"] == demo.SEED
    assert recipe["num_test_cases"] == card["num_cases"] == 1


class MiddleGenerator:
    """Draws the middle of every range and keeps the ranges in their order; normal numbers are their mean."""

    def __init__(self) -> None:
        self.ranges: list[list[float]] = []

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        self.ranges.append([low, high])
        middle = (low + high) / 2
        return middle if size is None else np.full(size, middle)

    def normal(self, mean: float, std: float, size: tuple[int, ...]) -> np.ndarray:
        return np.full(size, mean)


def test_demo_card_recipe_is_what_the_simulation_does(card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = card["recipe"]
    distances: list[float] = []

    def draw_ones(shape: tuple[int, ...], distance_mm: float, _: object) -> np.ndarray:
        distances.append(distance_mm)
        return np.ones(shape, dtype=np.float32)

    monkeypatch.setattr(demo, "_draw_smooth_field", draw_ones)
    shape = (9, 8, 7)
    template = demo._Head(np.ones(shape, np.float32), np.zeros((3, *shape), np.float32), np.eye(4))
    generator = MiddleGenerator()
    head = demo.simulate_head(template, generator)  # type: ignore[arg-type]
    assert generator.ranges == [
        recipe[key]
        for key in (
            "rotation_range_degrees",
            "scale_range",
            "gamma_range",
            "tissue_offset_range",
            "tissue_offset_range",
            "noise_std_range",
        )
    ]
    assert distances == [recipe["displacement_control_distance_mm"]] * 3 + [recipe["bias_control_distance_mm"]]
    # an image of ones keeps only the bias field, where the displaced voxel still lies inside
    assert np.log(head.image[0, 0, 0]) == pytest.approx(recipe["bias_log_std"], rel=1e-4)
    displaced = demo._draw_coordinates(shape, MiddleGenerator())[:, 0, 0, 0]  # type: ignore[arg-type]
    assert displaced * demo.RESOLUTION_MM == pytest.approx([recipe["displacement_mm"]] * 3)


def source_files(card: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    package = importlib.util.find_spec("nilearn")
    assert package, "the extra `demo` brings nilearn"
    assert package.origin
    for name, digest in card["source_files"].items():
        yield Path(package.origin).parent / "datasets" / "data" / name, digest


def test_demo_card_source_files_are_those_of_nilearn(card: dict[str, Any]) -> None:
    assert set(card["source_files"]) == set(demo._TEMPLATE_FILES.values())
    for path, digest in source_files(card):
        assert f"sha256:{compute_sha256(path)}" == digest


def test_demo_card_grid_is_half_the_source(card: dict[str, Any]) -> None:
    grid, source = (tuple(map(int, found)) for found in re.findall(r"(\d+) x (\d+) x (\d+) voxels", card["grid"]))
    assert f"of {demo.RESOLUTION_MM} mm" in card["grid"]
    for path, _ in source_files(card):
        assert nib.load(path).shape == source
    assert demo._halve(np.zeros(source, np.float32)).shape == grid


def test_drawings_are_what_the_scripts_make_and_are_small() -> None:
    metrics, messages = load_script("docs/build_drawings.py"), load_script("docs/build_message_pictures.py")
    expected = {f"metric_{name}.svg": metrics.build_drawing(scene) for name, scene in metrics.SCENES.items()}
    expected |= {f"message_{name}.svg": messages.build_drawing(scene) for name, scene in messages.SCENES.items()}
    files = [path for path in (ROOT / "docs" / "drawings").iterdir() if path.is_file()]
    drawn = {path.name: path.read_text(encoding="utf-8") for path in files if path.suffix == ".svg"}
    assert drawn == expected, "run `.venv/bin/python docs/build_drawings.py` and docs/build_message_pictures.py"
    assert read("docs/howto/messages_in_pictures.md") == messages.build_page()
    assert max(path.stat().st_size for path in files) < 150_000
    assert sum(path.stat().st_size for path in files) < 600_000
