"""Sets the version of an overlay: the tags of its images and the name of its migration Job.

    python3 scripts/set_version.py k8s/overlays/prod 0.2.0 --registry REGISTRY/penstock

A Job cannot be changed, so each version needs a Job of its own. Invariant: it changes nothing
unless every image and the Job were found. It needs no packages.
"""

# ruff: noqa: INP001, T201 - it prints to the terminal

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}")
IMAGES = re.compile(r"^images:\n(?P<entries>(?:[ ]+.*\n)+)", re.MULTILINE)
IMAGE = re.compile(
    r"^(?P<head>  - name: (?P<name>\S+)\n)(?:    new(?:Name|Tag): \S+\n)+", re.MULTILINE
)
JOB = re.compile(r"^(?P<head> +value: penstock-migrate-)\S+$", re.MULTILINE)


class NotSetError(Exception):
    """The overlay or the version is not as expected."""


def job_suffix(version: str) -> str:
    """Return a version as part of a DNS label, without which Kubernetes warns about a Job's name.

    Raises:
        NotSetError: It is no tag of an image.
    """
    if not TAG.fullmatch(version):
        raise NotSetError(f"{version!r} is no tag of an image: letters, digits, '.', '_', '-'")
    return re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")


def with_version(text: str, version: str, registry: str | None) -> str:
    """Return the text of a kustomization.yaml with another version.

    Args:
        text: The text as it is.
        version: The tag of all images.
        registry: Where the images are; None leaves their names as they are.

    Raises:
        NotSetError: There are no images, or not exactly one migration Job.
    """

    def image(found: re.Match[str]) -> str:
        old = re.search(r"^    newName: \S+\n", found[0], re.MULTILINE)
        name = f"    newName: {registry}/{found['name']}\n" if registry else (old[0] if old else "")
        return f"{found['head']}{name}    newTag: {version}\n"

    block = IMAGES.search(text)
    if block is None:
        raise NotSetError("it has no `images`")
    entries, count = IMAGE.subn(image, block["entries"])
    if count == 0:
        raise NotSetError("its `images` have no newTag")
    text = text[: block.start("entries")] + entries + text[block.end("entries") :]
    text, jobs = JOB.subn(rf"\g<head>{job_suffix(version)}", text)
    if jobs != 1:
        raise NotSetError("it does not name the Job penstock-migrate-VERSION once")
    return text


def main() -> int:
    """Change the overlay; return the exit code."""
    parser = argparse.ArgumentParser(description="Set the version of an overlay.")
    parser.add_argument("overlay", type=Path, help="folder of the overlay")
    parser.add_argument("version", help="tag of the images, such as 0.2.0")
    parser.add_argument(
        "--registry", help="where the images are; without it names stay as they are"
    )
    given = parser.parse_args()
    file = given.overlay / "kustomization.yaml"
    try:
        file.write_text(with_version(file.read_text(), given.version, given.registry))
    except (NotSetError, OSError) as error:
        print(f"{file} was not changed: {error}", file=sys.stderr)
        return 1
    print(f"{file} has version {given.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
