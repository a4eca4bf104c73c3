"""What an audit names, that it runs nothing of it, and that good bundles pass."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.audit.audit import Audit, audit_bundle
from unet_pipeline.audit.pickles import WEIGHTS_ONLY
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.trust import open_for_reading, require_trusted, unpack
from unet_pipeline.errors import BundleError, PipelineError
from unet_pipeline.messages import DANGER

from . import phantom_bundles as phantoms
from .hostile_bundles import HOSTILE, MARKER, TOUCH, Touches, add, torch_archive, write_good_bundle, zip_bundle, zip_of


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def find_markers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name == MARKER]


@pytest.mark.parametrize("name", HOSTILE)
def test_audit_hostile_bundle_is_named_and_runs_nothing(tmp_path: Path, name: str) -> None:
    build, code, named = HOSTILE[name]
    before = set(sys.modules)
    result = audit_bundle(build(tmp_path / "bundle"))
    dangers = [finding for finding in result.findings if finding.severity == DANGER]
    assert code in {finding.code for finding in dangers}
    assert any(named in str(finding) for finding in dangers if finding.code == code)
    assert not result.passed
    assert find_markers(tmp_path) == []
    assert not {"network", "scripts"} & (set(sys.modules) - before)


@pytest.mark.parametrize("name", HOSTILE)
def test_require_trusted_hostile_bundle_is_refused_and_nothing_is_unpacked(tmp_path: Path, name: str) -> None:
    build, _, named = HOSTILE[name]
    if name == "bomb in a nested zip":
        return  # it lies in docs/, which nothing of a prediction opens
    bundle = build(tmp_path / "bundle")
    arguments = (bundle, tmp_path / "unpacked") if bundle.is_file() else (BundleFolder(bundle),)
    with pytest.raises(BundleError) as caught:
        (unpack if bundle.is_file() else require_trusted)(*arguments)
    assert named.rpartition("/")[2] in str(caught.value)
    assert not (tmp_path / "unpacked").exists()
    assert not (tmp_path / "evil.py").exists()
    assert find_markers(tmp_path) == []


def run_python(code: str, folder: Path) -> None:
    """Execute a payload; in a process of its own, but for those that need seconds to import."""
    if "torch" in code or "monai" in code:
        with contextlib.suppress(Exception):
            exec(code, {})
        return
    subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "code",
    [
        f"import pickle; pickle.loads({pickle.dumps(Touches())!r})",
        f"import pickle; pickle.loads({pickle.dumps(Touches(), protocol=0)!r})",
        f"import pickle; pickle.loads({pickle.dumps(Touches())[:-1] + bytes([255])!r})",
        f"eval(\"__import__('os').system('{TOUCH}')\")",
        f"import pydoc; pydoc.locate('builtins.open')('{MARKER}', 'w')",
        f"import pydoc; pydoc.locate('subprocess.check_call')(['touch', '{MARKER}'])",
        f"import runpy; runpy.run_path({'bundle/scripts/network.py'!r})",
        "import logging.config; logging.config.fileConfig('bundle/configs/logging.conf')",
        "import numpy; numpy.load('bundle/models/atlas.npy', allow_pickle=True)",
        "import yaml; yaml.unsafe_load(open('bundle/configs/train.yaml'))",
        f"import torch; torch.from_file('{MARKER}', True, 4)",
        "import torch; torch.load('bundle/models/model.pt', weights_only=False)",
        'import monai; from monai.bundle import ConfigExpression as E; E("$monai.utils.misc.subprocess.check_call'
        f"(['touch', '{MARKER}'])\", globals={{'monai': monai}}).evaluate()",
        f"from monai.transforms import LoadImage as L; L(reader='subprocess.check_call', args=['touch', '{MARKER}'])",
    ],
)
def test_payload_of_the_tests_would_really_fire(tmp_path: Path, code: str) -> None:
    """Otherwise it would prove nothing that no marker appears."""
    root = tmp_path / "bundle"
    for name in ("script", "logging.conf", "array with a pickle", "payload in YAML", "legacy pickle"):
        shutil.rmtree(root / "configs", ignore_errors=True)
        HOSTILE[name][0](root)
        if name == "logging.conf":
            shutil.copy(root / "configs" / "logging.conf", tmp_path / "kept.conf")
    shutil.copy(tmp_path / "kept.conf", root / "configs" / "logging.conf")
    add(root, "configs/train.yaml", f"first: !!python/object/apply:os.system ['{TOUCH}']\n")
    run_python(code, tmp_path)
    assert find_markers(tmp_path)


# good bundles


def describe(result: Audit) -> str:
    return "\n".join(map(str, result.dangers))


def test_audit_bundle_in_the_zoo_layout_passes(tmp_path: Path) -> None:
    root = write_good_bundle(
        tmp_path / "bundle",
        scripts={"_target_": "scripts.network.Network", "channels": "$[2 ** level for level in range(4)]"},
        speed="$setattr(torch.backends.cudnn, 'benchmark', True)",
        weights="$torch.load('models/model.pt', weights_only=True)",
        loader={"_target_": "DataLoader", "dataset": "$@dataset", "num_workers": 4},
        mean="$np.mean(@values)",
        distributed=[
            "$import torch.distributed as dist",
            "$import logging",
            "$dist.is_initialized() or dist.init_process_group(backend='nccl')",
            "$@train#trainer.logger.setLevel(logging.WARNING if dist.get_rank() > 0 else logging.INFO)",
        ],
        number="$torch.device(f'cuda:{dist.get_rank()}')",
        cases="$[{'image': i, 'label': l} for i, l in zip(@images[:-9], @labels[:-9])]",
        names="$list(map(os.path.basename, @images))",
        handlers=[{"_target_": "ignite.handlers.EarlyStopping", "score_function": "$scripts.network.score"}],
    )
    head = "import torch\nfrom torch import nn\n\n\nclass Network(nn.Module):\n"
    head = f"from collections.abc import Sequence\nimport torch.nn.functional as F\n{head}"
    code = f"{head}    def forward(self, input):\n        return torch.relu(input)\n"
    result = audit_bundle(add(root, "scripts/network.py", code))
    assert result.passed, describe(result)
    assert {run.kind for run in result.runs} >= {"target", "expression", "import", "module"}
    assert ("configs/inference.json", "network_def", "UNet") in {(run.file, run.place, run.text) for run in result.runs}


@pytest.mark.parametrize("network", ["dynunet", "resenc", "unet2015", "unetplusplus", "attention_unet"])
def test_audit_planned_bundle_passes(tmp_path: Path, network: str) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells", num_cases=5)
    labels = {"background": 0, "cell": 255}
    numbers = phantoms.SMALL_2D if network == "dynunet" else {}
    root = phantoms.plan_small(dataset, tmp_path / "bundle", labels=labels, network=network, **numbers)
    result = audit_bundle(root)
    assert result.passed, describe(result)
    require_trusted(BundleFolder(root))
    assert len([run for run in result.runs if run.kind == "target"]) > 60
    assert not [run for run in result.runs if run.severity]
    copied = {finding.file for finding in result.findings if finding.code == "module-of-this-package"}
    assert copied == {f"unet_networks/{path.name}" for path in root.glob("unet_networks/*.py")}


def test_audit_changed_module_is_no_longer_the_packages_own(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells", num_cases=5)
    root = phantoms.plan_small(dataset, tmp_path / "bundle", labels={"background": 0, "cell": 255}, network="resenc")
    module = root / "unet_networks" / "blocks.py"
    module.write_text(module.read_text() + f"\n\nopen('{MARKER}', 'w')\n")
    found = [finding for finding in audit_bundle(root).dangers if finding.file == "unet_networks/blocks.py"]
    assert [finding.code for finding in found] == ["module-outside"]
    assert "open" in found[0].cause


def test_audit_same_bundle_as_folder_zip_and_address_is_the_same(tmp_path: Path) -> None:
    archive = zip_bundle(tmp_path / "bundle", lambda _: None)
    results = [audit_bundle(bundle) for bundle in (tmp_path / "bundle", archive, archive.as_uri())]
    assert len({result.runs for result in results}) == 1
    assert all(result.passed for result in results)


def test_audit_tar_link_device_and_traversal_are_named(tmp_path: Path) -> None:
    root = write_good_bundle(tmp_path / "bundle")
    archive = tmp_path / "bundle.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(root, "bundle")
    assert audit_bundle(archive).passed
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(root, "bundle")
        for name, kind in (
            ("bundle/link", tarfile.SYMTYPE),
            ("bundle/hard", tarfile.LNKTYPE),
            ("bundle/null", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            opened.addfile(member)
        opened.addfile(tarfile.TarInfo("bundle/../../evil"))
    found = {(finding.code, finding.file) for finding in audit_bundle(archive).dangers}
    assert found >= {
        ("entry-link", "bundle/link"),
        ("entry-link", "bundle/hard"),
        ("entry-special", "bundle/null"),
        ("entry-outside", "bundle/../../evil"),
    }
    with pytest.raises(BundleError, match="is not unpacked"):
        unpack(archive, tmp_path / "unpacked", trust=True)


def test_audit_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="another machine"):
        audit_bundle("https://example.org/bundle.zip")
    with pytest.raises(BundleError, match="not found"):
        audit_bundle(tmp_path / "nothing.zip")


def test_audit_network_address_is_a_warning_in_a_config_and_a_note_in_the_metadata(tmp_path: Path) -> None:
    result = audit_bundle(write_good_bundle(tmp_path / "bundle", source="https://example.org/weights.pt"))
    found = {(finding.file, finding.severity) for finding in result.findings if "network-address" in finding.code}
    assert found == {("configs/inference.json", "warning"), ("configs/metadata.json", "note")}


def test_audit_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    archive = zip_bundle(tmp_path / "bundle", lambda opened: opened.writestr("bundle/\x1b[2Jnothing found", b""))
    shown = "\n".join(map(str, audit_bundle(archive).findings))
    assert "\x1b" not in shown
    assert "entry-name" in {finding.code for finding in audit_bundle(archive).findings}


def test_weights_only_list_is_pytorchs_own() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    known = {name.replace("__builtin__", "builtins") for name in WEIGHTS_ONLY}
    missing = {name for name in _get_allowed_globals() if name not in known}
    assert not missing
    invented = {name for name in known - set(_get_allowed_globals()) if not name.startswith("torch.")}
    assert not invented


def test_audit_weights_written_by_pytorch_pass(tmp_path: Path) -> None:
    import torch

    root = write_good_bundle(tmp_path / "bundle")
    (root / "models").mkdir()
    state = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "n": torch.nn.Parameter(torch.zeros(2))}
    torch.save(state, root / "models" / "model.pt")
    torch.save(state, root / "models" / "old.pt", _use_new_zipfile_serialization=False)
    script = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()))
    torch.jit.save(
        script, root / "models" / "model.ts", _extra_files={"inference.json": json.dumps({"a": "$eval('1')"})}
    )
    result = audit_bundle(root)
    assert {finding.code for finding in result.dangers} == {"expression-outside"}
    assert "model.ts!" in result.dangers[0].file
    assert "torchscript" in {finding.code for finding in result.findings}


def test_audit_torchscript_that_maps_a_file_is_named(tmp_path: Path) -> None:
    import torch

    module = torch.jit.CompilationUnit(f"def run(size: int):\n    return torch.from_file('{MARKER}', True, size)\n")
    root = write_good_bundle(tmp_path / "bundle")

    class Maps(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("marker_of_a_payload", True, 4) + x

    (root / "models").mkdir()
    torch.jit.save(torch.jit.script(Maps()), root / "models" / "model.ts")
    assert "torchscript-operation" in {finding.code for finding in audit_bundle(root).dangers}
    assert find_markers(tmp_path) == []
    assert module is not None


# trust


def test_unpack_good_bundle_gives_its_files(tmp_path: Path) -> None:
    archive = zip_bundle(tmp_path / "bundle", lambda opened: opened.writestr("bundle/docs/README.md", "hello"))
    unpack(archive, tmp_path / "unpacked")
    names = {path.relative_to(tmp_path / "unpacked").as_posix() for path in (tmp_path / "unpacked").rglob("*.*")}
    assert names == {"configs/inference.json", "configs/metadata.json", "docs/README.md"}


@pytest.mark.parametrize("name", ["traversal", "absolute path", "link in a zip", "zip bomb"])
def test_unpack_trust_does_not_allow_to_write_outside(tmp_path: Path, name: str) -> None:
    bundle = HOSTILE[name][0](tmp_path / "bundle")
    with pytest.raises(BundleError, match="is not unpacked"):
        unpack(bundle, tmp_path / "unpacked", trust=True)
    assert not (tmp_path / "unpacked").exists()


def test_open_for_reading_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    archive = zip_bundle(tmp_path / "bundle", lambda _: None)
    with pytest.raises(BundleError, match=r"plan\.yaml is missing"), open_for_reading(archive):
        pass
    assert not list((tmp_path / "temporary").iterdir())


def test_require_trusted_trust_lets_everything_pass(tmp_path: Path) -> None:
    require_trusted(BundleFolder(HOSTILE["eval"][0](tmp_path / "bundle")), trust=True)


def test_require_trusted_refusal_says_what_and_what_to_do(tmp_path: Path) -> None:
    root = write_good_bundle(tmp_path / "bundle", **{f"id{number}": "$eval('1')" for number in range(5)})
    with pytest.raises(BundleError) as caught:
        require_trusted(BundleFolder(root))
    lines = str(caught.value).splitlines()
    assert "bundle needs trust; nothing of it was run" in lines[0]
    assert "5 danger(s)" in lines[0]
    assert len(lines) == 6
    assert "and 2 more" in lines[4]
    assert "--trust" in lines[5]


def test_require_trusted_sealed_bundle_new_evidence_is_allowed_and_a_new_config_is_not(tmp_path: Path) -> None:
    root = HOSTILE["weights that were changed"][0](tmp_path / "bundle")
    require_trusted(BundleFolder(root), sealed=False)
    add(root, "models/model.pt", torch_archive(**{"data.pkl": pickle.dumps({})}))
    add(root, "evidence/evaluations/new/summary.json", "{}")
    add(root, "models/model_fold_1.pt", torch_archive(**{"data.pkl": pickle.dumps({})}))
    require_trusted(BundleFolder(root))
    add(root, "configs/evaluate.json", "{}")
    with pytest.raises(BundleError, match=r"configs/evaluate\.json was put into the bundle after it was sealed"):
        require_trusted(BundleFolder(root))


# any bytes


@given(
    content=st.binary(max_size=400),
    start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04", b"\x93NUMPY"]),
)
def test_audit_any_bytes_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes
) -> None:
    root = tmp_path_factory.mktemp("any") / "bundle"
    write_good_bundle(root)
    names = "models/model.pt configs/train.json configs/train.yaml configs/logging.conf scripts/a.py models/a.npy models/a.npz"
    for name in (*names.split(), "models/a.onnx", "docs/a.zip", "unknown", "__pycache__/a.pyc"):
        add(root, name, start + content)
    audit_bundle(root)


@given(content=st.binary(max_size=300), at=st.integers(0, 2000), whole=st.booleans())
def test_audit_any_zip_raises_only_a_pipeline_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, at: int, whole: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    archive = zip_bundle(
        folder / "bundle", lambda opened: opened.writestr("bundle/models/model.pt", zip_of("a", content))
    )
    raw = archive.read_bytes()
    place = at % len(raw)
    archive.write_bytes(content if whole else raw[:place] + content + raw[place + len(content) :])
    try:
        audit_bundle(archive)
        unpack(archive, folder / "unpacked")
    except PipelineError:
        pass


@given(
    st.recursive(
        st.sampled_from(["$", "$x.", "$@", "@a", "%x#y", "$[", "$'{0.__class__}'", "monai.", "$import", 1, None]),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(st.sampled_from(["_target_", "a", "reader"]), below, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_audit_any_config_raises_nothing_else(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    audit_bundle(write_good_bundle(tmp_path_factory.mktemp("any") / "bundle", more=content))


def test_audit_deeply_nested_config_is_unreadable(tmp_path: Path) -> None:
    root = add(write_good_bundle(tmp_path / "bundle"), "configs/train.json", "[" * 100_000)
    assert "config-unreadable" in {finding.code for finding in audit_bundle(root).dangers}


def test_audit_yaml_that_repeats_itself_is_unreadable(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    root = add(write_good_bundle(tmp_path / "bundle"), "configs/train.yaml", "\n".join(lines))
    assert "config-unreadable" in {finding.code for finding in audit_bundle(root).dangers}


# signature


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_signature_of_the_manifest_is_good_and_of_another_is_not(tmp_path: Path) -> None:
    from unet_pipeline.audit.signature import sign_manifest

    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    root = HOSTILE["weights that were changed"][0](tmp_path / "bundle")
    add(root, "models/model.pt", torch_archive(**{"data.pkl": pickle.dumps({})}))
    manifest = root / "evidence" / "manifest.sha256"
    assert "signature-missing" in {finding.code for finding in audit_bundle(root, tmp_path / "mine.pub").dangers}
    sign_manifest(manifest, tmp_path / "mine")
    assert audit_bundle(root, tmp_path / "mine.pub").passed
    assert "signature-bad" in {finding.code for finding in audit_bundle(root, tmp_path / "other.pub").dangers}
    manifest.write_text(manifest.read_text() + "\n")
    assert "signature-bad" in {finding.code for finding in audit_bundle(root, tmp_path / "mine.pub").dangers}
    with pytest.raises(BundleError, match="no public SSH key"):
        audit_bundle(root, tmp_path / "mine")


def test_signature_without_openssh_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_good_bundle(tmp_path / "bundle")
    add(tmp_path, "mine.pub", "ssh-ed25519 AAAA")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BundleError, match="Install OpenSSH"):
        audit_bundle(root, tmp_path / "mine.pub")


def test_audit_nothing_heavy_is_imported() -> None:
    code = "import sys, unet_pipeline.bundle.trust; print(*sys.modules.keys() & {'torch', 'monai', 'numpy', 'pandas', 'scipy'})"
    environment = {**os.environ}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout.strip() == ""


def test_audit_zip_is_read_in_place(tmp_path: Path) -> None:
    archive = zip_bundle(tmp_path / "bundle", lambda opened: opened.writestr("bundle/models/model.pt", b"PK"))
    shutil.rmtree(tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    audit_bundle(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert zipfile.is_zipfile(archive)


# what comes of zipping and downloading


def test_audit_zip_of_a_mac_passes_and_its_finders_files_are_left_alone(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile) -> None:
        archive.writestr("__MACOSX/bundle/configs/._inference.json", b"\0\5\x16\7" + bytes(100))
        archive.writestr("__MACOSX/bundle/configs/inference.json", "no JSON")
        archive.writestr("bundle/configs/._metadata.json", b"\0\5\x16\7" + bytes(100))

    path = zip_bundle(tmp_path / "bundle", change)
    assert audit_bundle(path).passed, audit_bundle(path).dangers
    unpack(path, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "configs" / "metadata.json").is_file()
    assert not (tmp_path / "unpacked" / "__MACOSX").exists()


def test_audit_hidden_config_is_looked_at_whatever_its_name(tmp_path: Path) -> None:
    root = write_good_bundle(tmp_path / "bundle")
    add(root, "configs/._inference.json", json.dumps({"a": {"_target_": "subprocess.check_call"}}))
    assert "target-outside" in {finding.code for finding in audit_bundle(root).dangers}


def test_audit_zip_of_two_bundles_names_both(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile) -> None:
        archive.writestr("other/configs/inference.json", "{}")

    result = audit_bundle(zip_bundle(tmp_path / "bundle", change))
    (danger,) = [finding for finding in result.dangers if finding.code == "several-bundles"]
    assert "holds 2 bundles: bundle, other" in str(danger)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<html><p>404", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "PNG"),
        (b"PK\x03\x04" + bytes(200), "cut off or damaged"),
    ],
)
def test_audit_weights_that_are_something_else_are_named_as_such(tmp_path: Path, content: bytes, found: str) -> None:
    root = write_good_bundle(tmp_path / "bundle")
    add(root, "models/model.pt", content)
    (danger,) = [finding for finding in audit_bundle(root).dangers if finding.where.startswith("models/model.pt")]
    assert danger.code == "weights-unreadable"
    assert found in str(danger)
    assert "Get the file again" in str(danger)


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "nothing, it is empty"), (b"text", "something else"), (b"%PDF-1.7" + bytes(99), "PDF")]
)
def test_open_bundle_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"bundle.zip holds {found}; expected a bundle as a folder, zip or tar"):
        audit_bundle(path)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:200] + bytes(99) + raw[299:]])
def test_damaged_zip_is_told_in_one_sentence(tmp_path: Path, damage: object) -> None:
    path = zip_bundle(tmp_path / "bundle", lambda archive: None)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=r"cut off or damaged|cannot be read") as caught, open_for_reading(path):
        pass
    assert ".." not in str(caught.value)
