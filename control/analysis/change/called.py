"""What changes are called that no rule is in words for, seen from what they open and from what they close."""

from typing import NamedTuple


class Words(NamedTuple):
    """What changes are called that no rule is in words for."""

    any_request: str
    own_node: str
    undenied: str
    one_kind: str
    mended: str
    by_default: str
    on_host: str
    new_names: str
    addressless: str
    api_server: str


OPENED = Words(
    any_request="any request",
    own_node="any request of the own node",
    undenied="no longer denied",
    mended="headers not mended as before",
    one_kind="no longer shut by rules for another kind of bytes",
    by_default="no longer denied by default",
    on_host="on the network of its node, where no policy of pods holds",
    new_names="DNS names that rules allow to this new workload",
    addressless="requests or names, because it has no address any more",
    api_server="requests, because the API server is",
)
# Of the same change the other way round.
CLOSED = Words(
    any_request="all but some requests",
    own_node="all but some requests of the own node",
    undenied="denied now",
    mended="headers mended so before",
    one_kind="shut now by rules for another kind of bytes",
    by_default="denied by default now",
    on_host="no longer on the network of its node, where no policy of pods holds",
    new_names="DNS names that rules allowed to this workload, which is gone",
    addressless="requests or names, because it has an address now",
    api_server="requests, because the API server was",
)
