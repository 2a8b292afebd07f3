"""The contenders, each a program of its own: `worker` says how one is driven."""
