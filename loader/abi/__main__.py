"""`python -m loader.abi > bpf/mesh_abi.h`: write the header that the C programs include."""

from loader.abi.layout import header

print(header(), end="")
