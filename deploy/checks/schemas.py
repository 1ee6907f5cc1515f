"""Every object is what Kubernetes 1.32 and the operators' custom resources want; nothing unknown passes."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Final

from . import node
from .manifests import Manifest, name_of, render, targets
from .result import Unavailable

KUBERNETES: Final = "1.32"
CUSTOM: Final = {
    "cert-manager.io": "cert-manager",
    "external-secrets.io": "external-secrets",
    "gateway.networking.k8s.io": "gateway-api",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}
"""Groups that are not Kubernetes' own, and the package of their models."""
_ERROR: Final = re.compile(r"^(.+)\.ts\(\d+,\d+\): error \w+: (.*)$", re.MULTILINE)
_ALL: Final = """
const wrong = {};
for (const file of %s) await import(`./${file}.js`).catch((error) => { wrong[file] = error.message });
console.log(JSON.stringify(wrong));
"""


def check(root: Path) -> list[str]:
    faults: list[str] = []
    custom: list[tuple[str, Manifest]] = []
    for target in targets(root):
        for manifest in render(root, target):
            if group_of(manifest) in CUSTOM:
                custom.append((target, manifest))
            else:
                faults += [f"{target}: {name_of(manifest)}: {fault}" for fault in core_faults(manifest)]
    return faults + custom_faults(custom)


def group_of(manifest: Manifest) -> str:
    return str(manifest.get("apiVersion", "")).rpartition("/")[0]


def core_faults(manifest: Manifest) -> list[str]:
    try:
        import kubernetes_validate
    except ImportError:
        raise Unavailable("no kubernetes-validate: make check-deploy installs it") from None
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{manifest.get('apiVersion')} {manifest.get('kind')} is unknown to Kubernetes {KUBERNETES}"]
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(part) for part in error.path)
        return [f"{where or 'as a whole'}: {error.message[:300]}"]
    return []


def custom_faults(manifests: list[tuple[str, Manifest]]) -> list[str]:
    """By the models' own rules, and by their types: a field that no type knows would be dropped in silence."""
    faults: list[str] = []
    sources: dict[str, tuple[str, str]] = {}
    for target, manifest in manifests:
        said = f"{target}: {name_of(manifest)}"
        module = _module(manifest)
        if (
            not (node.HOME / "node_modules" / f"{module}.js").exists()
            and (node.HOME / "node_modules").is_dir()
        ):
            faults.append(f"{said}: {manifest.get('apiVersion')} {manifest.get('kind')} is unknown")
            continue
        file = re.sub(r"[^A-Za-z0-9]+", "-", said)
        sources[file] = said, _source(module, manifest)
    return faults + _run(sources)


def _module(manifest: Manifest) -> str:
    return f"@kubernetes-models/{CUSTOM[group_of(manifest)]}/{manifest['apiVersion']}/{manifest['kind']}"


def _source(module: str, manifest: Manifest) -> str:
    kind = manifest["kind"]
    return (
        f'import {{ {kind}, I{kind} }} from "{module}";\n'
        f"const manifest: I{kind} = {json.dumps(manifest, indent=1)};\n"
        f"new {kind}(manifest).validate();\n"
    )


def _run(sources: dict[str, tuple[str, str]]) -> list[str]:
    if not sources:
        return []
    if not (node.HOME / "node_modules").is_dir():
        raise Unavailable("no models of custom resources: make check-deploy installs them")
    with tempfile.TemporaryDirectory(prefix="manifests-", dir=node.HOME) as folder:
        home = Path(folder)
        (home / "package.json").write_text('{"type": "module"}')
        for file, (_, source) in sources.items():
            (home / f"{file}.ts").write_text(source, encoding="utf-8")
        (home / "all.mjs").write_text(_ALL % json.dumps([*sources]))
        compiler = node.HOME / "node_modules/typescript/bin/tsc"
        options = ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"]
        files = [f"{file}.ts" for file in sources]
        compiled = node.node(str(compiler), *options, "--pretty", "false", *files, cwd=home)
        errors = _ERROR.findall(compiled.stdout)
        faults = [f"{sources[file][0]}: {text}" for file, text in errors]
        if compiled.returncode and not faults:
            faults.append(f"tsc: {compiled.stdout[-500:]}{compiled.stderr[-500:]}")
        ran = node.node("all.mjs", cwd=home)
        if ran.returncode:
            return [*faults, f"node: {ran.stderr[-500:]}"]
        wrong: dict[str, str] = json.loads(ran.stdout)
        return faults + [f"{sources[file][0]}: {text[:300]}" for file, text in wrong.items()]
