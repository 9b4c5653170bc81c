"""What Atrium and its runners say to each other: llama.cpp's own server routes. Inward only, no client speaks it.

Source: the behaviour of llama.cpp's server as measured; the engines' port suite holds it to that.
"""
