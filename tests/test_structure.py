"""The shape of the code and of the wiring, held by tests: sizes, names, documentation, and what a config may say."""

from __future__ import annotations

import ast
import builtins
import json
import os
import pydoc
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_pipeline.bundle.configs import CONFIGS, OVERLAYS, build_configs, list_sources
from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.losses import LOSSES
from unet_pipeline.planning.other_sites import OtherSites
from unet_pipeline.planning.planner import plan_from_fingerprint

from .conftest import build_fingerprint

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pipeline" / "unet_pipeline"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
WIRING = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (PACKAGE / "wiring").glob("*.yaml")}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
BANNED_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "manager")
# ignite and MONAI call it by this name on every handler; the class says what the handler does
UNDOCUMENTED_METHODS = ("attach",)
# a longer method needs words; a shorter one, such as a path of BundleFolder, is its own description
MAX_UNDOCUMENTED_LINES = 3
# for the type checker only: the check that makes them true has been made by the caller
ALLOWED_ASSERTS = {("pipeline/unet_pipeline/dataset/check.py", "dataset.labels is not None")}


def parse(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


# sizes


@pytest.mark.parametrize("module", MODULES)
def test_module_is_not_too_long(module: str) -> None:
    num_lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_MODULE_LINES, f"{module} has {num_lines} lines; split it by concept"


@pytest.mark.parametrize("module", MODULES)
def test_function_is_not_too_long(module: str) -> None:
    too_long = {
        f"{node.name}, line {node.lineno}": length
        for node in ast.walk(parse(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"{module}: more than {MAX_FUNCTION_LINES} lines"


# names, documentation, asserts


def test_module_names_say_what_is_in_them() -> None:
    banned = [path for path in list_tracked_files() if path.suffix == ".py" and path.stem in BANNED_NAMES]
    assert not banned
    assert not [module for module in MODULES if set(Path(module).parts[:-1]) & set(BANNED_NAMES)]


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module: str) -> None:
    tree = parse(module)
    if not tree.body:  # the empty __init__.py of a stage
        return
    undocumented = [] if ast.get_docstring(tree) else [module]
    undocumented += [f"line {node.lineno}: {node.name}" for node in find_public(tree) if not ast.get_docstring(node)]
    assert not undocumented


def find_public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public classes and functions of a module, and those public methods whose name and line do not say it all."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if not isinstance(method, ast.FunctionDef) or method.name.startswith("_"):
                    continue
                length = (method.end_lineno or method.lineno) - method.lineno + 1
                if method.name not in UNDOCUMENTED_METHODS and length > MAX_UNDOCUMENTED_LINES:
                    yield method


def test_asserts_only_narrow_types() -> None:
    found = {
        (module, ast.unparse(node.test))
        for module in MODULES
        for node in ast.walk(parse(module))
        if isinstance(node, ast.Assert)
    }
    assert found == ALLOWED_ASSERTS, "raise an error that names the value; `python -O` drops an assert"


# the wiring: every part exists, and expressions say no more than they may

REFERENCE = re.compile(r"@([\w#]+)")
MONAI_NAMES = {"monai", "torch", "np", "numpy"}  # monai.bundle imports these for every expression
EXCEPTIONS = {
    # which device there is can only be asked where the config runs
    ("shared", "device"): "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    # MONAI has no component that turns paths into samples, and inference must do without this package
    ("inference", "image_cases"): "$[{'image': path} for path in @image_files]",
    # a config is not told where it lies; MONAI's own calls are asked (tests/bundles/test_loading.py)
    ("shared", "config_folders"): (
        "$[os.path.abspath(folder) for frame, _ in traceback.walk_stack(None) if "
        "frame.f_globals.get('__name__') in ('monai.bundle.workflows', 'monai.bundle.scripts') for folder in "
        "( [str(frame.f_locals['self'].config_root_path)] if isinstance(frame.f_locals.get('self'), "
        "monai.bundle.ConfigWorkflow) else "
        "[os.path.dirname(str(monai.utils.ensure_tuple(frame.f_locals['config_file_'])[0]))] if "
        "'config_file_' in frame.f_locals else [])]"
    ),
    ("shared", "bundle_root"): (
        "$next((os.path.dirname(folder) for folder in @config_folders if os.path.basename(folder) == 'configs'), '.')"
    ),
    # the modules of another bundle of this process are forgotten
    ("own_modules", "modules#0"): (
        "$[sys.modules.pop(name).__name__ for name in list(sys.modules) if name.startswith('unet_networks.') "
        "and os.path.realpath(os.path.dirname(os.path.dirname(str(getattr(sys.modules[name], '__file__', "
        "''))))) != @bundle_path]"
    ),
}


def iterate_strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a config with its id."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict | list):
        for part, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from iterate_strings(value, f"{key}#{part}".lstrip("#"))


EXPRESSIONS = [
    (source, key, text)
    for source, content in sorted(WIRING.items())
    for key, text in iterate_strings(content)
    if text.startswith("$")
]
TARGETS = sorted(
    {
        text
        for content in WIRING.values()
        for key, text in iterate_strings(content)
        if key.rpartition("#")[2] == "_target_"
    }
    | {row.bundle_target(for_training) for row in NETWORKS.values() for for_training in (False, True)}
)
LISTS = {key for content in WIRING.values() for key, value in content.items() if isinstance(value, list)}


def collect_sources() -> dict[tuple[str, str], tuple[str, ...]]:
    """Files of the wiring for every config and network, each in the form as published."""
    found = {}
    for network in NETWORKS:
        dims = NETWORKS[network].spatial_dims[0]
        fingerprint = build_fingerprint(shapes=((388,) * dims,) * 4)
        plan = plan_from_fingerprint(fingerprint, "data", "quick", network=network).plan
        found |= {(name, network): list_sources(name, plan) for name in CONFIGS}
    regions = fingerprint.model_copy(update={"regions": {"all": tuple(fingerprint.labels.values())}})
    plan = plan_from_fingerprint(regions, "data", "quick").plan
    for loss in LOSSES:
        found["train", f"dynunet with {loss}"] = list_sources("train", plan.model_copy(update={"loss": loss}))
    tuned = plan.model_copy(update={"initial_weights_sha256": "0" * 64})
    found["train", "dynunet from other weights"] = list_sources("train", tuned)
    elsewhere = plan.model_copy(update={"other_sites": OtherSites()})
    found["train", "dynunet for other hospitals"] = list_sources("train", elsewhere)
    lacking = plan.model_copy(update={"missing_channels": ("t1",)})
    found["train", "dynunet for missing channels"] = list_sources("train", lacking)
    partial = plan.model_copy(update={"missing_labels": (tuple(fingerprint.labels)[1:],)})
    found |= {
        (name, "dynunet with a part of the labels"): list_sources(name, partial) for name in ("train", "evaluate")
    }
    for instances in (
        {"instance_targets": "levels", "instance_depths_voxel": (2,)},
        {"instance_targets": "gaps", "loss": "border_weighted_ce"},
    ):
        cells = plan.model_copy(update=instances)
        found |= {(name, f"dynunet for {instances['instance_targets']}"): list_sources(name, cells) for name in CONFIGS}
    parted = plan.model_copy(update={"border_threshold": 0.03})
    found |= {(name, "dynunet with closed borders"): list_sources(name, parted) for name in CONFIGS}
    imported = plan.model_copy(update={"axcodes": None, "transposed_bias": True})
    found["train", "dynunet of nnU-Net"] = list_sources("train", imported)
    flat_plan = plan.model_copy(update={"spatial_dims": 2, "channel_names": ("DAPI", "GFP"), "image_suffix": ".nii.gz"})
    found |= {
        (name, "dynunet of 2D images with channels"): list_sources(name, flat_plan) for name in ("train", "inference")
    }
    return found


SOURCES = collect_sources()


def parse_expression(text: str) -> ast.stmt:
    """Syntax tree of a `$` expression; a reference such as @train#loss becomes a name with `ref_` in front."""
    (statement,) = ast.parse(REFERENCE.sub(lambda match: "ref_" + match[1].replace("#", "__"), text[1:])).body
    return statement


def is_allowed(statement: ast.stmt) -> bool:
    """An import, a name, lists joined, one index, or one call whose arguments are plain."""
    match statement:
        case ast.Import(names=[_]):
            return True
        case ast.Expr(value=ast.BinOp() as joined):
            return is_join_of_lists(joined)
        case ast.Expr(value=ast.Subscript(value=taken, slice=ast.Constant(value=int()))):
            return is_reference(taken)
        case ast.Expr(value=ast.Call(func=called, args=arguments, keywords=keywords)):
            plain = all(is_plain(argument) for argument in (*arguments, *(keyword.value for keyword in keywords)))
            return plain and (is_dotted_name(called) or is_method_of_text(called))
        case ast.Expr(value=value):
            return is_dotted_name(value)
    return False


def is_reference(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.startswith("ref_")


def is_dotted_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and is_dotted_name(node.value))


def is_method_of_text(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def is_plain(node: ast.expr) -> bool:
    """A constant, a name, or a list of constants."""
    if isinstance(node, ast.List):
        return all(isinstance(item, ast.Constant) for item in node.elts)
    return isinstance(node, ast.Constant) or is_dotted_name(node)


def is_join_of_lists(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return is_join_of_lists(node.left) and is_join_of_lists(node.right)
    return isinstance(node, ast.Name) and node.id.removeprefix("ref_") in LISTS


def test_wiring_is_found() -> None:
    assert {source for sources in SOURCES.values() for source in sources} == set(WIRING)
    assert len(TARGETS) > 40
    assert len(EXPRESSIONS) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_target_can_be_located(target: str) -> None:
    # a bundle's own modules are copies of the package's
    assert callable(pydoc.locate(target.replace("unet_networks.", "unet_pipeline.networks.")))


@pytest.mark.parametrize(
    ("source", "key", "text"), EXPRESSIONS, ids=[f"{source}: {key}" for source, key, _ in EXPRESSIONS]
)
def test_expression_has_an_allowed_form(source: str, key: str, text: str) -> None:
    if (source, key) in EXCEPTIONS:
        assert text == EXCEPTIONS[source, key]
    else:
        assert is_allowed(parse_expression(text)), f"{text}: write a named function, or one call after the other"


def test_expression_exceptions_are_all_needed() -> None:
    assert {(source, key) for source, key, _ in EXPRESSIONS} >= EXCEPTIONS.keys()
    assert not [text for text in EXCEPTIONS.values() if is_allowed(parse_expression(text))]


@pytest.mark.parametrize(
    "text",
    [
        "$lambda x: x",
        "$@validation_cases[:-9]",
        "$@num_epochs * 2",
        "$@num_epochs + 1",
        "$@label_values + @class_indices",
        "$[case for case in @validation_cases]",
        "$len(@validation_cases) - 1",
        "$sorted(glob.glob(@image_glob))",
        "$os.path.join(@bundle_root, @name + '.pt')",
        "$@network_def.to(@device).eval()",
        "$1 if @resume else 2",
    ],
)
def test_is_allowed_other_forms_are_refused(text: str) -> None:
    assert not is_allowed(parse_expression(text))


@pytest.mark.parametrize(
    "text",
    [
        "$import os",
        "$torch.float32",
        "$len(@training_cases)",
        "$@network.parameters()",
        "$@train#trainer.run()",
        "$@image_transforms + @label_transforms",
        "$@mirror_probability[0]",
        "$monai.handlers.from_engine(['pred', 'label'])",
    ],
)
def test_is_allowed_forms_of_the_design_are_taken(text: str) -> None:
    assert is_allowed(parse_expression(text))


@pytest.mark.parametrize(
    ("name", "network"), [name for name in SOURCES if name[0] not in OVERLAYS or name[1] == "dynunet"]
)
def test_expression_names_are_imported(name: str, network: str) -> None:
    """A name that is not there fails only where the expression is used."""
    below = SOURCES["train", network] if name in OVERLAYS else ()
    sources = (*below, *SOURCES[name, network])
    trees = [parse_expression(text) for source, _, text in EXPRESSIONS if source in sources]
    imported = {alias.name for tree in trees if isinstance(tree, ast.Import) for alias in tree.names}
    used = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    bound = {
        node.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    unknown = {name for name in used - bound if not name.startswith("ref_") and not hasattr(builtins, name)}
    assert unknown <= imported | MONAI_NAMES
    assert imported <= used, "imported and not used"


@pytest.mark.parametrize(
    "kind",
    [
        {"shapes": ((96, 80),) * 4, "suffix": ".png", "channels": ("red", "green", "blue")},
        {"shapes": ((40, 56, 40),) * 4, "channels": ("CT",)},
        {"shapes": ((40, 56, 40),) * 4, "labels": {"background": 0, "organ": 3, "tumour": 7}},
    ],
    ids=["2D", "3D CT", "3D"],
)
def test_inference_config_needs_nothing_of_this_package(
    make_fingerprint: Callable[..., Fingerprint], kind: dict[str, Any]
) -> None:
    plan = plan_from_fingerprint(make_fingerprint(**kind), "../phantom", "quick").plan
    config = build_configs(plan)["inference"]
    targets = {text for key, text in iterate_strings(config) if key.rpartition("#")[2] == "_target_"}
    assert {target.partition(".")[0] for target in targets} == {"monai"}
    assert len(targets) > 10
    assert not [text for _, text in iterate_strings(config) if re.search(r"\b(?:unet_)?pipeline\b", text)]
    assert config == json.loads(json.dumps(config)), "JSON must not change it"


# where the tests look for real images

DATA_VARIABLES = re.compile("PIPELINE_" + r"(?:REQUIRE_)?DATA\b")


def test_real_data_are_decided_about_in_one_place() -> None:
    # warm_python hands the whole environment on
    found = {path for path, _ in find_in_texts(DATA_VARIABLES) if path.endswith((".py", ".ipynb", ".sh"))}
    assert found == {"tests/conftest.py"}, "take the fixture pipeline_data instead of reading the variable"
    source = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    reading = {
        function.name
        for function in ast.parse(source).body
        if isinstance(function, ast.FunctionDef) and "environ" in ast.unparse(function)
    }
    assert reading == {"pipeline_data", "pytest_configure", "pytest_runtest_makereport", "warm_python"}


def test_tests_that_take_real_data_carry_the_mark(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        takes_data = "pipeline_data" in getattr(item, "fixturenames", ())
        assert takes_data == (item.get_closest_marker("real_data") is not None), item.nodeid


def test_tests_with_the_mark_and_without_the_data_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.real_data
        def test_reads_some_other_folder():
            pass
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_reads_some_other_folder is marked real_data and does not take the fixture*"])


def test_tests_of_a_newcomer_are_skipped(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "REQUIRE_DATA"):
        monkeypatch.delenv(f"PIPELINE_{name}", raising=False)
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = real_data: reads real images")
    pytester.makepyfile("def test_a(pipeline_data): pass\ndef test_b(hippocampus_report): pass\ndef test_c(): pass")
    pytester.runpytest_inprocess("-m", "real_data").assert_outcomes(skipped=2, deselected=1)
    monkeypatch.setenv("PIPELINE_" + "REQUIRE_DATA", "1")
    pytester.runpytest_inprocess("-m", "real_data").assert_outcomes(errors=2, deselected=1)


# what is published


def list_tracked_files() -> list[Path]:
    """Files that are in the repository or would be; without git all but the ignored folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        paths = [Path(name) for name in listed]
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(\.(?!ci/)|__pycache__/|demo/|runs/|build/|dist/|[^/]*\.egg-info/)")
        paths = [
            Path(path).relative_to(ROOT)
            for folder, _, names in os.walk(ROOT)
            for path in map(Path(folder).joinpath, names)
        ]
        paths = [path for path in paths if not hidden.search(path.as_posix())]
    return [path for path in paths if (ROOT / path).is_file()]


def find_in_texts(pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """File and match, over all text files."""
    found = set()
    for path in list_tracked_files():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found |= {(path.as_posix(), match[0]) for match in pattern.finditer(text)}
    return found


MACHINE_FOLDER = re.compile(r"(?<![\w.])/(?:work|root|home|opt|Users|mnt)/\w+")
PRIVATE_HOST = re.compile(
    r"https?://(?:[^/\s\"'`]*@|localhost|\d+\.\d+\.\d+\.\d+|[\w.-]+\.(?:internal|intra|local|lan|corp)\b|[\w-]+[:/])"
    r"[^\s\"'`)]*|(?:extra-)?index-url\s*[=\s]\s*\S+|trusted-host\s*[=\s]\s*\S+"
)


def test_published_files_name_no_folder_of_a_machine() -> None:
    # an absolute path that `package` must refuse
    assert find_in_texts(MACHINE_FOLDER) <= {("tests/bundles/test_verbs.py", "/" + "home/me")}


def test_published_files_name_no_private_host() -> None:
    found = find_in_texts(PRIVATE_HOST)
    # the loopback address is everybody's own: that of a server that one starts oneself
    assert {(path, text) for path, text in found if not text.startswith("http://" + "127.0.0.1:")} == set()


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        (MACHINE_FOLDER, ("see /", "home/me/data")),
        (PRIVATE_HOST, ("http://", "10.0.0.7/simple")),
        (PRIVATE_HOST, ("https://", "pypi.firm.internal/simple")),
        (PRIVATE_HOST, ("https://", "user:word@pypi.org")),
        (PRIVATE_HOST, ("http://", "registry:5000/simple")),
        (PRIVATE_HOST, ("--index", "-url https://pypi.org/simple")),
    ],
)
def test_patterns_find_what_they_look_for(pattern: re.Pattern[str], parts: tuple[str, str]) -> None:
    assert pattern.search("".join(parts))


def test_patterns_leave_public_addresses_alone() -> None:
    assert not PRIVATE_HOST.search("https://docs.monai.io/en/stable/")
    assert not MACHINE_FOLDER.search("https://example.org/home/page and ../opt/data")
