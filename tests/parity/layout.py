"""The order of the latent's channels against `layout_small.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, Golden, Row
from vssflow_jax.audio.autoencoder import from_flow, to_flow

UNUSED = ("video_feat", "ref_audio_ebd", "synch_feat", "lip_feat", "phone_id", "t")


def check(golden: Golden) -> Iterator[Row]:
    """A row for each direction. Theirs: [b, latent channel, t, band] and [b, c, t]."""
    for name in UNUSED:  # only there because the code that was run needs them
        golden[f"in/{name}"]
    latent = golden["in/vae_latent"]
    flow = to_flow(latent.transpose(0, 2, 3, 1))  # [b, t, c]
    yield golden.row("out/flow_from_vae", flow.transpose(0, 2, 1), EXACT)
    maps = from_flow(np.swapaxes(golden["in/x0_noise"], 1, 2), latent_channels=latent.shape[1])
    yield golden.row("out/vae_from_flow", maps.transpose(0, 3, 1, 2), EXACT)
