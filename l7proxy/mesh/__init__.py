"""mTLS between nodes: how one proxy carries a client's bytes to the proxy of its server's node, and who may ask for it.

`frames` and `names` are pure; `contexts` holds keys; the others are edges. May import l7proxy.edge and
control.certificates.
"""
