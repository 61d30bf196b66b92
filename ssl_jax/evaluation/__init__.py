"""Scores, statistics and figures of predictions."""
