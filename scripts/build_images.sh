#!/usr/bin/env bash
# Build the images with docker, podman or buildah: the first that is installed.
#
#   scripts/build_images.sh                    api, control and worker-cpu
#   scripts/build_images.sh worker             the named targets
#   scripts/build_images.sh --stand-in api     without a registry: the base is made by debootstrap (root, buildah)
#
# TAG: the version (that of pyproject.toml by default). BUILD_OPTIONS: further options of the builder,
# such as --volume for a pip.conf or certificates of your network.
set -euo pipefail
cd "$(dirname "$0")/.."

stand_in=
if [ "${1-}" = --stand-in ]; then
    stand_in=localhost/penstock-base:stand-in
    shift
fi
targets=("$@")
[ $# -gt 0 ] || targets=(api control worker-cpu)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG=${TAG:-$version}
read -ra options <<<"${BUILD_OPTIONS-}"

builder() { # HEALTHCHECK needs Docker's format in podman and buildah
    if [ -z "$stand_in" ] && command -v docker >/dev/null; then
        docker build "$@"
    elif [ -z "$stand_in" ] && command -v podman >/dev/null; then
        podman build --format docker "$@"
    elif command -v buildah >/dev/null; then
        buildah build --isolation chroot --format docker --layers "$@"
    else
        echo "Install docker, podman or buildah." >&2
        return 1
    fi
}

make_stand_in() { # the same as python:3.11-slim: Debian 12 with Python 3.11 and venv
    if buildah images -q "$stand_in" 2>/dev/null | grep -q .; then
        return
    fi
    local root
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=python3,python3-venv,python3-dev,ca-certificates \
        bookworm "$root/base"
    rm -rf "$root"/base/var/cache/apt/archives/*.deb "$root"/base/var/lib/apt/lists/*
    local made
    made=$(buildah from scratch)
    buildah add -q "$made" "$root/base" /
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
    buildah commit -q --rm "$made" "$stand_in"
    rm -rf "$root"
}

if [ -n "$stand_in" ]; then
    make_stand_in
    options+=(--build-arg "PYTHON_IMAGE=$stand_in")
fi
for target in "${targets[@]}"; do
    name=penstock-$target
    [ "$target" != api ] || name=penstock-core
    echo "== $name:$TAG"
    builder --target "$target" --tag "$name:$TAG" "${options[@]}" .
done
