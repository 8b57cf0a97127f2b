"""Trained networks that metrics and losses look at images with; they need torch alone."""
