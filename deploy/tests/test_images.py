"""The checks of images find what is broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy.checks import images
from deploy.checks.result import Broken

from .conftest import ROOT, replace


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_our_own_images_are_fine(built: Path) -> None:
    assert images.check(built) == []


def test_a_base_of_the_day_is_found(built: Path) -> None:
    replace(built / "Dockerfile", "debian:13.8-slim\n", "debian\n")
    assert [fault for fault in images.check(built) if "whatever it is that day" in fault]


def test_what_the_linter_minds_is_found(built: Path) -> None:
    with (built / "Dockerfile").open("a") as file:
        file.write("RUN cd /tmp && sudo true\n")
    assert [fault for fault in images.check(built) if "DL3004" in fault]


def test_a_file_that_is_no_dockerfile_is_found(built: Path) -> None:
    (built / "Dockerfile").write_text("FRMO nothing\n")
    assert images.check(built)


def test_secrets_on_their_way_to_the_builder_are_found(built: Path) -> None:
    (built / ".dockerignore").unlink()
    assert [fault for fault in images.check(built) if ".env" in fault]


def test_images_that_have_gone_are_missed(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="no Dockerfile"):
        images.check(tmp_path)
