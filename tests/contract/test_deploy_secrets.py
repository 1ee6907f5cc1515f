"""The secrets that `python -m deploy.secrets` makes are those that the deployment asks for, and nobody else can read them."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from deploy.secrets import USERS, make

K8S = Path(__file__).parents[2] / "deploy/k8s"


def test_each_user_of_nats_has_a_password_that_the_server_takes_for_a_text(tmp_path: Path) -> None:
    make(tmp_path)
    lines = (tmp_path / "nats-passwords.env").read_text().splitlines()
    passwords = dict(line.split("=", 1) for line in lines)
    asked = re.findall(r"\$NATS_([A-Z]+)_PASSWORD", (K8S / "base/nats/users.conf").read_text())
    assert {*passwords} == {*USERS} == {name.lower() for name in asked}
    assert all(re.fullmatch(r"[a-z][0-9a-f]{40,}", each) for each in passwords.values())
    assert len({*passwords.values()}) == len(USERS)


def test_the_overlay_for_development_reads_these_files(tmp_path: Path) -> None:
    make(tmp_path)
    wanted = re.findall(r"secrets/([\w.-]+)", (K8S / "overlays/dev/kustomization.yaml").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {name for name in wanted if "." in name}


def test_the_certificate_is_good_for_its_key_and_names_every_server(tmp_path: Path) -> None:
    make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    routes = re.findall(r"nats-route://([\w.-]+):", (K8S / "base/nats/nats.conf").read_text())
    assert len(routes) == 3
    for name in routes:
        _shake_hands(context, tmp_path / "ca.crt", name)


def _shake_hands(server: ssl.SSLContext, ca: Path, name: str) -> None:
    """Raises `ssl.SSLError` unless who knows the authority believes that the server has that name."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(ca))
    ends = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(10):
        done = 0
        for end in ends:
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == len(ends):
            return
    raise AssertionError("the handshake does not end")


def test_what_is_there_stays_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    first = make(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert {*first} == {*before}
    assert make(folder) == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in before)
