"""Images built and run for real, without a Docker engine and without Docker Hub: by podman, on a
small Debian that stands in for nvidia/cuda. All above it is the image's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from image.image_engine import ROOT, Engine

BASE = "docker.io/library/debian:bookworm-slim"  # under this name README's lines find it
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
WHEELS = "/opt/wheels"  # a folder of wheels on this machine comes here while an image is built
# As in Docker's own images of Debian: apt keeps nothing.
CLEAN = (
    'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache ""; '
    'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb || true";};'
)
# What works without systemd, and where a process may not raise its own limits.
CONTAINERS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{cache}/storage"
runroot = "/run/axr-test-image"
"""


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if os.getuid() != 0 or not all(map(shutil.which, ("podman", "runc", "mmdebstrap"))):
        pytest.skip("no podman, runc and mmdebstrap for root here: docker/ci-setup.sh brings them")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axr-test-image"
    cache.mkdir(parents=True, exist_ok=True)
    run = tmp_path_factory.mktemp("engine")
    (run / "containers.conf").write_text(CONTAINERS)
    (run / "storage.conf").write_text(STORAGE.format(cache=cache))
    settings = {
        "CONTAINERS_CONF": str(run / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(run / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "DOCKER_LIMITS": "",
    }
    return Engine({**os.environ, **settings})


@pytest.fixture(scope="session")
def base(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian with Python 3.11; the first time it takes a minute."""
    if engine("podman", "image", "exists", BASE, code=None).returncode != 0:
        tar = tmp_path_factory.mktemp("base") / "base.tar"
        certificates = os.environ.get("SSL_CERT_FILE", CERTIFICATES)
        engine(
            "mmdebstrap",
            "--variant=minbase",
            "--include=ca-certificates,python3,python3-venv",
            f"--customize-hook=copy-in {certificates} /etc/ssl/certs",
            f'--customize-hook=mkdir "$1{WHEELS}"',
            f"--customize-hook=printf '%s\\n' '{CLEAN}' >\"$1/etc/apt/apt.conf.d/docker-clean\"",
            "bookworm",
            tar,
            timeout=600,
        )
        env = {
            "SSL_CERT_FILE": CERTIFICATES,
            "PIP_CERT": CERTIFICATES,
            "UV_FIND_LINKS": WHEELS,
        }
        changes = [word for name in env.items() for word in ("-c", "ENV {}={}".format(*name))]
        engine("podman", "import", "-q", *changes, tar, BASE)
        tar.unlink()
    return BASE


@pytest.fixture(scope="session")
def launcher_image(engine: Engine, base: str) -> str:
    """The target launcher, as `make image TARGET=launcher` builds it."""
    image = "axr-test:launcher"
    arguments = ("--build-arg", f"BASE_IMAGE={base}")
    build = ROOT / "docker/container.sh"
    engine(build, "build", "launcher", *arguments, DOCKER_CLI="podman", IMAGE=image, timeout=600)
    return image


@pytest.fixture(scope="session")
def docker(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Docker's own client speaks to podman."""
    if shutil.which("docker") is None:
        pytest.skip("Docker's client is not on this machine")
    socket = tmp_path_factory.mktemp("docker") / "docker.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{socket}"],
        env=engine.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not socket.exists() and service.poll() is None:
            time.sleep(0.1)
        yield {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
    finally:
        service.terminate()
        service.wait()
