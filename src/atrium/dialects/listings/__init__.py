"""Model lists of the formats that endpoints speak: read into our words, and written from them."""
