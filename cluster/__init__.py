"""Machines and storage: Ray clusters, sessions on them, and buckets.

This package imports nothing from `search` or `trainables`.
"""
