"""Measured comparisons, one module a question: `python -m bench NAME`. docs/measurements.md has what they found."""
