"""What kustomize makes of the manifests, for the checks to look at. No check itself.

`python -m deploy.checks.manifests FOLDER` prints it, with a kustomize that is built where there is none.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from .programs import go_tool, run
from .result import Broken

KUSTOMIZE: Final = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
"""Built where neither a kustomize nor a kubectl is at hand."""
OVERLAYS: Final = ("dev", "staging", "production")
SECRET_FILES: Final = ("nats-passwords.env", "gateway-jwt.env", "ca.crt", "tls.crt", "tls.key")

Manifest = dict[str, Any]


def targets(root: Path) -> list[str]:
    """All that must build: the overlays, and each component alone upon the base."""
    folder = root / "deploy/k8s"
    found = [
        f"{kind}/{path.parent.name}" for kind in ("overlays", "components") for path in _under(folder / kind)
    ]
    missing = {f"overlays/{name}" for name in OVERLAYS} - {*found}
    if missing:
        raise Broken(f"there is no {', '.join(sorted(missing))} in {folder}")
    return found


def _under(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/kustomization.yaml"))


@functools.lru_cache(maxsize=64)
def render(root: Path, target: str) -> tuple[Manifest, ...]:
    """The objects of an overlay, or of the base with that component. Raises `Broken` with what kustomize says."""
    with _copy(root) as folder:
        where = folder / target
        if target.startswith("components/"):
            where = folder / "alone" / target
            where.mkdir(parents=True)
            (where / "kustomization.yaml").write_text(
                f"namespace: roundtable\nresources: [../../../base]\ncomponents: [../../../{target}]\n",
                encoding="utf-8",
            )
        text = rendered(where)
    return tuple(each for each in yaml.safe_load_all(text) if each)


def rendered(folder: Path) -> str:
    """The objects of any kustomization, as text. Raises `Broken` with what kustomize says, or `Unavailable`."""
    done = run(*kustomize(), folder)
    if done.returncode:
        raise Broken(f"{folder.parent.name}/{folder.name} does not build: {done.stderr.strip()[-2_000:]}")
    return done.stdout


def name_of(manifest: Manifest) -> str:
    return f"{manifest.get('kind')}/{manifest.get('metadata', {}).get('name')}"


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each.get("kind") in kinds]


def pod_of(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


@contextmanager
def _copy(root: Path) -> Iterator[Path]:
    """The manifests with secrets of no worth, where one's own are read from files that git ignores."""
    with tempfile.TemporaryDirectory(prefix="roundtable-k8s-") as home:
        folder = Path(home) / "k8s"
        shutil.copytree(root / "deploy/k8s", folder, ignore=shutil.ignore_patterns("secrets"))
        secrets = folder / "overlays/dev/secrets"
        if secrets.parent.is_dir():
            secrets.mkdir()
            for name in SECRET_FILES:
                (secrets / name).write_text("nothing=nothing\n", encoding="utf-8")
        yield folder


@functools.cache
def kustomize() -> tuple[str, ...]:
    if found := shutil.which("kustomize"):
        return found, "build"
    if found := shutil.which("kubectl"):
        return found, "kustomize"
    return str(go_tool("kustomize", KUSTOMIZE)), "build"


if __name__ == "__main__":
    print(rendered(Path(sys.argv[1])), end="")
