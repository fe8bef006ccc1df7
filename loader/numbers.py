"""The numbers of endpoints, identities and policy sets that belong to the self-test alone.

Here and not in loader/selftest, which takes long to import: every command that lists endpoints asks.
"""

# What they do is in no counter of the datapath: bpf/maps.h knows the number, too.
FIRST_ENDPOINT = 0xFFFFFF00


def is_reserved(number: int) -> bool:
    """Return whether an endpoint, identity or policy set number is one of the self-test's."""
    return number >= FIRST_ENDPOINT
