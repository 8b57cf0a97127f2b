"""What scripts/benchmark.py measures: one module for each subset, with ``measure(settings)`` giving its rows."""
