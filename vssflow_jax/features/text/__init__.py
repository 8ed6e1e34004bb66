"""English text to ARPAbet: what a sentence says in words, and how its words sound.

`normalise` writes numbers, money, abbreviations and addresses out in words; `pronounce` looks the
words up. Both follow NETWORKS section 6, the reference's front end.
"""

from vssflow_jax.features.text.reading import Reading, read, spoken_words

__all__ = ["Reading", "read", "spoken_words"]
