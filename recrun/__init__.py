"""A config-driven experiment runner for recommender models."""

__version__ = "0.1.0"
