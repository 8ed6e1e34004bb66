"""The likeliest tokens, by a beam that is one wide (greedy) or wider.

Rules, as CTranslate2 has them (MIT): of twice as many candidates as beams, those that end among the
first half are finished, and the first that do not end go on; an example is done once as many are
finished as there are beams; of those the best counts, by its log-probability / length ** penalty.

Letters: b examples, B beams, r = b B rows, c = 2 B candidates, n tokens, v tokens that there are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vssflow_jax.networks.whisper.network import Decoder, Pairs


class Rules(NamedTuple):
    """What may be said.

    Attributes:
      end: the token that ends a text.
      barred: bool [v], never said.
      barred_first: bool [v], not said first.
    """

    end: int
    barred: jax.Array
    barred_first: jax.Array


class Found(NamedTuple):
    """The best text of each example.

    Attributes:
      tokens: int32 [b, n], `Rules.end` behind them.
      lengths: int32 [b], without the end.
      log_probability: float32 [b], summed over the tokens and the end.
      rank: float32 [b], what it was chosen by.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probability: jax.Array
    rank: jax.Array


class _State(NamedTuple):
    step: jax.Array  # int32, how many tokens have been said
    read: Pairs
    said: jax.Array  # int32 [b, B, n], the end behind them
    last: jax.Array  # int32 [b, B]
    scores: jax.Array  # float32 [b, B], log-probabilities
    finished: jax.Array  # int32 [b], how many texts
    best: Found


def search(
    decoder: Decoder,
    heard: Pairs,
    prompt: jax.Array,
    rules: Rules,
    *,
    beams: int,
    most: int,
    length_penalty: float = 1.0,
) -> Found:
    """What is said, after a prompt that is the same for all examples.

    Args:
      decoder: computes in the dtype of `heard`.
      heard: from `decoder.listen`, of b examples.
      prompt: int32 [at least 2].
      rules: what may be said.
      beams: B, texts that are followed at a time.
      most: tokens of a text, at most.
      length_penalty: see above; 0 prefers short texts.
    """
    dtype, b, before = heard.keys.dtype, heard.keys.shape[1], len(prompt) - 1
    # All but the last of the prompt are read once for all beams.
    asked = jnp.tile(prompt[None, :-1], (b, 1))
    _, read = decoder(asked, decoder.nothing(b, before + most, heard), heard, 0)
    read = Pairs(*(jnp.repeat(pairs, beams, axis=1) for pairs in read))

    def advance(state: _State) -> _State:
        tokens = state.last.reshape(-1, 1)
        x, read = decoder(tokens, state.read, heard, before + state.step)
        candidates = _candidates(state, decoder.logits(x[:, 0], dtype), rules)
        return _advanced(state, read, candidates, rules.end, length_penalty)

    def goes_on(state: _State) -> jax.Array:
        return (state.step < most) & jnp.any(state.finished < beams)

    nothing = jnp.full((b, beams, most), rules.end, jnp.int32)
    start = _State(
        step=jnp.int32(0),
        read=read,
        said=nothing,
        last=jnp.full((b, beams), prompt[-1], jnp.int32),
        # The beams begin alike: all but one of them count for nothing yet.
        scores=jnp.tile(jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf), (b, 1)),
        finished=jnp.zeros(b, jnp.int32),
        best=Found(
            tokens=nothing[:, 0],
            lengths=jnp.zeros(b, jnp.int32),
            log_probability=jnp.full(b, -jnp.inf),
            rank=jnp.full(b, -jnp.inf),
        ),
    )
    return jax.lax.while_loop(goes_on, advance, start).best


class _Candidates(NamedTuple):
    """Texts with a token more, the likeliest first, [b, c] each.

    Attributes:
      scores: float32, log-probabilities.
      parents: int32, which beams they go on with.
      tokens: int32, the last.
    """

    scores: jax.Array
    parents: jax.Array
    tokens: jax.Array


def _candidates(state: _State, logits: jax.Array, rules: Rules) -> _Candidates:
    """The likeliest of all beams with any token behind, by the logits [r, v] of that."""
    b, beams = state.scores.shape
    c = 2 * beams
    barred = rules.barred | (rules.barred_first & (state.step == 0))
    logits = jnp.where(barred, -jnp.inf, logits)
    # None is behind the first c of its own beam.
    likeliest, tokens = jax.lax.top_k(logits, c)  # [r, c]
    log_probs = likeliest - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    totals = state.scores[..., None] + log_probs.reshape(b, beams, c)
    scores, places = jax.lax.top_k(totals.reshape(b, -1), c)
    tokens = jnp.take_along_axis(tokens.reshape(b, -1), places, axis=1)
    return _Candidates(scores, places // c, tokens)


def _advanced(
    state: _State, read: Pairs, candidates: _Candidates, end: int, length_penalty: float
) -> _State:
    """The state after a token more.

    Args:
      state: before it.
      read: keys and values with the last tokens in them.
      candidates: what it may be.
      end: the token that ends a text.
      length_penalty: see `search`.
    """
    b, beams, most = state.said.shape
    scores, parents, tokens = candidates
    said = jnp.take_along_axis(state.said, parents[..., None], axis=1)
    said = jax.lax.dynamic_update_index_in_dim(said, tokens, state.step, axis=2)  # [b, c, n]

    is_end = tokens == end
    ends = is_end[:, :beams] | (state.step == most - 1)
    lengths = state.step + 1 - is_end[:, :beams]
    ranks = scores[:, :beams] / jnp.maximum(lengths, 1) ** length_penalty
    goes_on = state.finished[:, None] < beams
    ranks = jnp.where(ends & goes_on, ranks, -jnp.inf)
    best = _better(state.best, Found(said[:, :beams], lengths, scores[:, :beams], ranks))

    going = jnp.argsort(is_end, axis=1, stable=True)[:, :beams]  # a beam ends in one way only
    parents, tokens, scores = (
        jnp.take_along_axis(x, going, axis=1) for x in (parents, tokens, scores)
    )
    if beams > 1:
        rows = (jnp.arange(b)[:, None] * beams + parents).reshape(-1)
        read = Pairs(*(jnp.take(pairs, rows, axis=1) for pairs in read))
    return _State(
        step=state.step + 1,
        read=read,
        said=jnp.take_along_axis(said, going[..., None], axis=1),
        last=tokens,
        scores=scores,
        finished=state.finished + jnp.sum(ends, axis=1, dtype=jnp.int32),
        best=best,
    )


def _better(best: Found, candidates: Found) -> Found:
    """The best of what was found [b] and of candidates [b, B]."""
    rows = jnp.arange(len(best.rank))
    first = jnp.argmax(candidates.rank, axis=1)
    found = jax.tree.map(lambda x: x[rows, first], candidates)
    better = found.rank > best.rank
    return jax.tree.map(
        lambda new, old: jnp.where(better.reshape(-1, *(1,) * (old.ndim - 1)), new, old),
        found,
        best,
    )
