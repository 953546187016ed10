"""Speed and memory, measured. Each module is a command: `python -m benchmarks.play --help`."""
