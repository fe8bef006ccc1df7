"""CiliumCIDRGroup: address ranges under a name, which rules refer to by `cidrGroupRef` and `cidrGroupSelector`."""

from control import model
from control.policy import field, parse, peers

KINDS = (("cilium.io/v2", "CiliumCIDRGroup"), ("cilium.io/v2alpha1", "CiliumCIDRGroup"))


def read_cidr_group(document: field.Field) -> model.CidrGroup | None:
    """Read a group. None: it has problems, all of them reported."""
    before = document.report.count
    entries = document.fields(("apiVersion", "kind", "metadata", "spec", "status"), required=("metadata", "spec"))
    _, name, labels = parse.read_metadata(document, entries, False)
    spec = entries["spec"].fields(("externalCIDRs",), required=("externalCIDRs",)) if "spec" in entries else {}
    items = spec["externalCIDRs"].each() if "externalCIDRs" in spec else ()
    prefixes = dict.fromkeys(prefix for prefix in map(peers.read_prefix, items) if prefix is not None)
    if document.report.count > before:
        return None
    return model.CidrGroup(name, labels, tuple(prefixes), document.source)
