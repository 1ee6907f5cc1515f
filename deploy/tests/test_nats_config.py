"""The check of NATS's configuration finds what is broken."""

from __future__ import annotations

import re

import pytest

from deploy.checks import natsconf
from deploy.checks.manifests import Manifest

from .conftest import Breaking, Overlay

Named = dict[str, Manifest]


def conf(old: str, new: str) -> Breaking:
    def breaking(all_: Named) -> None:
        name = next(each for each in all_ if each.startswith("ConfigMap/nats-config"))
        text = all_[name]["data"]["nats.conf"]
        assert re.search(old, text, re.MULTILINE)
        all_[name]["data"]["nats.conf"] = re.sub(old, new, text, flags=re.MULTILINE)

    return breaking


def pod(all_: Named) -> Manifest:
    spec: Manifest = all_["StatefulSet/nats"]["spec"]["template"]["spec"]
    return spec


BROKEN: dict[str, tuple[Breaking, str]] = {
    "not synced": (conf("^  sync_interval: always", ""), "a power cut"),
    "synced outside of jetstream": (
        conf(r"^  sync_interval: always\n}", "}\nsync_interval: always"),
        "a power cut",
    ),
    "no limit of files": (conf("^  max_file_store.*", ""), "max_file_store is unset"),
    "more than the volume": (conf("max_file_store: 9GB", "max_file_store: 10GB"), "leaves no room"),
    "an account as large as its servers": (
        lambda all_: next(
            each for each in pod(all_)["containers"][0]["env"] if each["name"] == "NATS_ACCOUNT_STORE"
        ).update(value="27GB"),
        "a full server leads no log",
    ),
    "no limit of memory": (conf("^  max_mem_store.*", ""), "max_mem_store is unset"),
    "more than the pod": (conf("max_mem_store: 256MB", "max_mem_store: 1GB"), "more than half"),
    "a short lame duck": (conf('lame_duck_duration: "30s"', 'lame_duck_duration: "10s"'), "no less than 30"),
    "killed as a lame duck": (
        lambda all_: pod(all_).update(terminationGracePeriodSeconds=30),
        "is killed after 30 s",
    ),
    "no lame duck": (lambda all_: pod(all_)["containers"][0].pop("lifecycle"), "clients are cut off"),
    "a server too many": (
        lambda all_: all_["StatefulSet/nats"]["spec"].update(replicas=5),
        "there are 5 servers",
    ),
    "addresses told": (conf("no_advertise: true", "no_advertise: false"), "no certificate names"),
    "one probe for all": (
        lambda all_: pod(all_)["containers"][0]["livenessProbe"]["httpGet"].update(path="/healthz"),
        "the probes ask",
    ),
}


def test_our_own_configuration_is_fine(production: Overlay) -> None:
    assert [*natsconf.faults_of(production.whole), *natsconf.unread(production.whole)] == []


@pytest.mark.parametrize("what", BROKEN)
def test_a_setting_that_loses_or_cuts_off_is_found(production: Overlay, what: str) -> None:
    breaking, said = BROKEN[what]
    faults = [*natsconf.faults_of(production.broken(breaking))]
    assert [fault for fault in faults if said in fault], faults


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("^max_payload", "max_paylod"),
        ('"30s"', '"10s"'),
        ("include users.conf", "include user.conf"),
        (r"^}", ""),
    ],
)
def test_files_that_the_server_would_not_read_are_found(production: Overlay, old: str, new: str) -> None:
    faults = [*natsconf.unread(production.broken(conf(old, new)))]
    assert len(faults) == 1
    assert "does not read its files" in faults[0]
