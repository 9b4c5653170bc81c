"""What a relay costs: nginx, LiteLLM's proxy and Atrium on one core each, before the same upstream, in one run."""
