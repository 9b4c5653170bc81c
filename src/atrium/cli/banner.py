"""What a start prints on stdout: where the server is, and at the first start the one key."""

from __future__ import annotations


def banner(url: str, key: str | None, model: str | None, *, open_door: bool) -> str:
    lines = [f"Atrium is listening on {url}"]
    if open_door:
        lines.append("The door is open: everyone who reaches this port may use the models without a key.")
    if key:
        named = f'"model": "{model}", ' if model else ""
        lines += [
            "",
            "Your API key, shown this once:",
            f"  {key}",
            "",
            "Try it, once the model is installed:",
            f"  curl {url}/v1/chat/completions \\",
            f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
            f'    -d \'{{{named}"messages": [{{"role": "user", "content": "Say hello."}}], "max_tokens": 100}}\'',
        ]
    return "\n".join(lines)
