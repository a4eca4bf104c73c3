"""A signature over a bundle's manifest, with the SSH keys that people have: who sealed this bundle?

Made and checked by OpenSSH (`ssh-keygen -Y`), in the namespace "unet-pipeline".
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from unet_pipeline.audit.manifest import MANIFEST, SIGNATURE
from unet_pipeline.errors import BundleError
from unet_pipeline.messages import DANGER, NOTE, Message, Problem

NAMESPACE, _SIGNER = "unet-pipeline", "signer"
SIGNED = Message.of_bundle(
    "signature-good",
    NOTE,
    "is a good signature of the key {text}",
    "The manifest is the one that was signed.",
    "Nothing to do.",
)
NOT_SIGNED = Message.of_bundle(
    "signature-missing",
    DANGER,
    "is missing",
    "A key was given, and nobody signed this bundle.",
    "Ask its maker for a signed bundle, or audit it without a key.",
)
SIGNATURE_BAD = Message.of_bundle(
    "signature-bad",
    DANGER,
    "is not a signature of the key {text} over this manifest",
    "Somebody else sealed the bundle, or the manifest was changed since.",
    "Get the bundle again from its maker.",
)


def sign_manifest(manifest: Path, key: Path) -> Path:
    """Write the signature beside the manifest, under its name with .sig.

    Args:
        manifest: evidence/manifest.sha256 of a sealed bundle.
        key: private SSH key; for one with a passphrase OpenSSH asks, or its agent answers.

    Raises:
        BundleError: no OpenSSH, no key, or OpenSSH refuses.
    """
    if not key.is_file():
        raise BundleError(
            f"Signing key {key.name} does not exist. Make one with `ssh-keygen -t ed25519 -f {key.name}`."
        )
    signature = manifest.with_name(f"{manifest.name}.sig")
    signature.unlink(missing_ok=True)
    done = subprocess.run(
        [find_ssh_keygen(), "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(manifest)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not signature.is_file():
        cause = (done.stderr.strip().splitlines() or ["no reason given"])[-1].replace(str(key), key.name)
        raise BundleError(f"The bundle cannot be signed with {key.name}: {cause}. Give a private SSH key.")
    return signature


def verify_signature(manifest: bytes | None, signature: bytes | None, key: Path) -> Problem:
    """Whether a key signed a manifest.

    Args:
        manifest: contents of the manifest; None without one.
        signature: contents of the signature; None without one.
        key: public SSH key, as in a .pub file.

    Raises:
        BundleError: no OpenSSH, or no public key.
    """
    if not key.is_file():
        raise BundleError(
            f"Public key {key.name} does not exist. Give the .pub file that the bundle's maker has published."
        )
    public = key.read_text(encoding="utf-8", errors="replace").strip()
    if not public.startswith(("ssh-", "ecdsa-", "sk-")) or "\n" in public:
        raise BundleError(
            f"{key.name} is no public SSH key; expected one line such as 'ssh-ed25519 AAAA...'. Give the .pub file."
        )
    program = find_ssh_keygen()
    if manifest is None or signature is None:
        return NOT_SIGNED.about(SIGNATURE if manifest is not None else MANIFEST)
    with tempfile.TemporaryDirectory() as temporary:
        signers, signed = Path(temporary) / "signers", Path(temporary) / "signature"
        signers.write_text(f"{_SIGNER} {public}\n", encoding="utf-8")
        signed.write_bytes(signature)
        arguments = ["-Y", "verify", "-f", str(signers), "-I", _SIGNER, "-n", NAMESPACE, "-s", str(signed)]
        done = subprocess.run([program, *arguments], input=manifest, capture_output=True, check=False)
    return (SIGNATURE_BAD if done.returncode else SIGNED).about(SIGNATURE, text=key.name)


def find_ssh_keygen() -> str:
    """Path of OpenSSH's program.

    Raises:
        BundleError: it is not installed.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise BundleError(
            "ssh-keygen was not found; it makes and checks signatures. Install OpenSSH, version 8.2 or newer."
        )
    return program
