"""Frozen networks of others, in Flax: they extract features, and later judge.

Each module has a network with its sizes as published, each `convert_*` the names of its published
file; `published` imports them and loads them back. No weights come with this project.
"""
