"""Networks behind some metrics, loaded from files that the user names.

`docs/evaluation_networks.md` says which, and where to get them. Each is written out in JAX and
takes the tensors of its published file under the names that they have there.
"""
