"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

__version__ = "0.1.0.dev0"
