"""Policy to resolved model to map entries, the standalone source, the agent and the CLI. May import loader."""
