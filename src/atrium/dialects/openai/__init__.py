"""OpenAI's wire: `/v1` chat completions, completions, embeddings, errors. Source: contract `openai.md`."""
