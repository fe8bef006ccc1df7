"""The certificates of mTLS between nodes: the authority that signs, what a node's proxy holds, and who is trusted.

All is pure, with the time passed in as Unix seconds, but for `files` and `store`, and `leaf`'s save and load. May
import control.policy.objectnames and loader.errors.
"""
