"""The policy languages: documents to `Policy`, and `Policy` to what it means for each identity. Pure; imports control
and loader.abi only."""
