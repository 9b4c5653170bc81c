"""What LoLLMs' clients say and read under `/lollms/v1`. Source: contract `lollms.md`."""
