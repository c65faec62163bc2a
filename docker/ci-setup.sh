#!/bin/sh
# What the tests of the image need on a Debian or Ubuntu machine without Docker (as root). Nothing else of the project needs it.
set -eu
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "ci-setup: needs root and apt-get; the tests of the image will be skipped" >&2
    exit 3
fi
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends buildah podman runc mmdebstrap iptables netavark
