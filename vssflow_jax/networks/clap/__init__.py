"""LAION-CLAP (Wu et al. 2023, arXiv 2211.06687): do a sound and a text say one thing?

sound -> `mel` -> `network.Clap.sound`, text -> `tokens` -> `network.Clap.text`: vectors of one
space. Weights and tokenizer come from elsewhere: `convert`, `vssflow_jax.networks.published`.
"""
