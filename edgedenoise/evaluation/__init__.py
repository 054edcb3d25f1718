"""Measurements of variants: latency, quality against ground truth, and reports."""
