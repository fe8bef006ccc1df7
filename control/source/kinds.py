"""Which kinds of documents there are: ours, those that mean nothing here, and those that were meant to be ours."""

import functools
import re
from collections.abc import Collection

from control.policy import field

Kind = tuple[str, str]  # apiVersion and kind

_OWN_GROUP = "sockmesh.io"
_POLICY_GROUPS = ("cilium.io", "networking.k8s.io")  # where a kind that was mistyped must not be taken for another one
_OLD_GROUPS = ("", "extensions")  # where some kinds were, or are thought to be
# Where a kind that is called a policy decides about something else than who may talk to whom.
_OTHER_POLICIES = (
    "admissionregistration.k8s.io", "audit.k8s.io", "kyverno.io", "policies.kyverno.io", "policy", "wgpolicyk8s.io",
)  # fmt: skip
_OF_CILIUM = ("CiliumBGPPeeringPolicy", "CiliumEgressGatewayPolicy", "CiliumLocalRedirectPolicy")
_ALIKE = 0.66  # CiliumNetworkPolcy is meant to be ours, CiliumClusterwideEnvoyConfig is not
_MORE_ALIKE = 0.75  # where the group is another one, too: Network is networking.gke.io's
# An apiVersion that a kind of somebody else's may have.
_OF_OTHERS = re.compile(r"[-a-z0-9]+(\.[-a-z0-9]+)+/[a-z][-a-z0-9]*")
# Of the kinds that are read, those that there are in one group only.
_OURS_ALONE = re.compile(r"(Cilium|Mesh|ClusterMesh).*(Policy|Group)")
_LIKE_OURS_ALONE = re.compile(r"Cilium|Mesh|ClusterMesh")  # how what was mistyped begins, whatever its group is
TAKEN_ELSEWHERE = ": `sockmesh policy` takes it, the agent does not: move it to another directory"
OF_OTHERS = ": this mesh puts no policies of that kind in force: move it to another directory"


def wrong(kind: Kind, known: Collection[Kind], skips: bool) -> str:
    """Return what is wrong with a kind that nobody reads. With `skips`, nothing is if it was not meant to be ours."""
    api_version, name = kind
    versions = {ours: version for version, ours in known}
    group = _group(api_version).casefold()
    if name in versions and (not skips or _is_meant(api_version, name, _group(versions[name]))):
        return f"apiVersion: unknown {field.quote(api_version)} of kind {name} ({versions[name]})"
    if not skips or group == _OWN_GROUP or any(_is_near(kind, ours, _group(versions[ours])) for ours in versions):
        is_elsewhere = not skips and not wrong(kind, known, skips=True) and not _is_like(name, versions)
        remedy = (OF_OTHERS if is_policy(kind) else TAKEN_ELSEWHERE) if is_elsewhere else ""
        meant = next((f"; did you mean {ours}?" for ours in versions if _is_case(name, ours)), "")
        return f"unknown kind {field.quote(f'{api_version} {name}')}{remedy} {field.one_of(sorted(versions))}{meant}"
    return ""


def _is_case(name: str, ours: str) -> bool:
    """Tell whether only the case of letters is another."""
    return name != ours and name.casefold() == ours.casefold()


def _is_like(name: str, those: Collection[str]) -> bool:
    """Tell whether a kind is called nearly as one of those: it is mistyped, whatever its group is."""
    return any(_likeness(name, each) >= _MORE_ALIKE for each in those)


def _is_meant(api_version: str, name: str, ours: str) -> bool:
    """Tell whether a kind called like one of ours is that one, with its group left out, mistyped or of long ago."""
    group = _group(api_version).casefold()
    if _OURS_ALONE.fullmatch(name) or not _OF_OTHERS.fullmatch(api_version) or group in (_OWN_GROUP, *_OLD_GROUPS):
        return True
    # Others have kinds of these names too: NetworkPolicy is also crd.projectcalico.org's, Service also Knative's.
    return _likeness(group, ours) >= _ALIKE


def _is_near(kind: Kind, ours: str, group: str) -> bool:
    """Tell whether a kind may be one of ours that decides about policy, mistyped."""
    api_version, name = kind
    likeness = _likeness(name, ours) if group in (_OWN_GROUP, *_POLICY_GROUPS) else 0
    if _group(api_version).casefold() == group:
        return likeness >= _ALIKE
    # Others put a word of theirs before it: AdminNetworkPolicy is policy.networking.k8s.io's.
    is_meant = not name.endswith(ours) and _is_meant(api_version, name, group)
    return likeness >= _MORE_ALIKE and (is_meant or bool(_LIKE_OURS_ALONE.match(name) and _LIKE_OURS_ALONE.match(ours)))


def is_policy(kind: Kind) -> bool:
    """Tell whether a kind that nobody reads may decide who may talk to whom, elsewhere."""
    api_version, name = kind
    return name.endswith("Policy") and name not in _OF_CILIUM and _group(api_version) not in _OTHER_POLICIES


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _likeness(one: str, other: str) -> float:
    """Return the share of pairs of letters that two words have in common, from 0 to 1."""
    of_one, of_other = _pairs(one[:60]), _pairs(other)
    return 2 * len(of_one & of_other) / (len(of_one) + len(of_other))


@functools.lru_cache(maxsize=64)  # those of ours are asked for again and again
def _pairs(word: str) -> frozenset[str]:
    word = word.lower()
    return frozenset(word[index : index + 2] for index in range(len(word) - 1))
