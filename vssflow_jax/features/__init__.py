"""A video, a voice or a text to the streams that the model sees."""
