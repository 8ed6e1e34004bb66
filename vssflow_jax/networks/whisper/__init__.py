"""Whisper (Radford et al. 2022, arXiv 2212.04356): the words that are spoken.

sound -> `mel` -> `network`, asked token by token by `search` -> tokens -> `vocabulary` -> text; all
of it in `transcribe`. Weights and vocabulary come from elsewhere: `convert`, `published`.
"""
