"""Wire formats: bytes to words and words to bytes, without I/O."""
