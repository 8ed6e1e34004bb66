"""Sound in and out of the latent space: log-mel front end, codecs, vocoders."""
