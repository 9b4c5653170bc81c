"""nginx twice: as the upstream that answers whole chats from memory, and as the reverse proxy to compare with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bench.relay.processes import started
from bench.relay.subject import DIRECT, NGINX, Address, Subject
from bench.served import free_port

APT = "apt-get update && apt-get install -y nginx-light wrk"

SHARED = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {body}
}}
"""
# A head as hosted APIs send them: three of its values differ from answer to answer.
UPSTREAM = """
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    default_type application/json;
    location = /v1/models {{
      return 200 '{{"object":"list","data":[{{"id":"m1","object":"model","created":1700000000,"owned_by":"bench"}}]}}';
    }}
    location = /v1/chat/completions {{
      add_header X-Request-Id req_$request_id;
      add_header OpenAI-Processing-Ms $msec;
      add_header X-RateLimit-Remaining-Requests $connection_requests;
      return 200 '{{"id":"chatcmpl-$request_id","object":"chat.completion","created":1700000000,"model":"m1",\
"choices":[{{"index":0,"message":{{"role":"assistant","content":"Red, green and blue are the three primary colours \
of light: every screen mixes the others from them.","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],\
"usage":{{"prompt_tokens":21,"completion_tokens":22,"total_tokens":43,"prompt_tokens_details":{{"cached_tokens":0}}}},\
"system_fingerprint":"fp_bench"}}';
    }}
    location / {{ return 200 '{{"status":"ok"}}'; }}
  }}
"""
PROXY = """
  upstream posts {{ server 127.0.0.1:{posts}; keepalive 512; keepalive_requests 100000000; }}
  upstream streams {{ server 127.0.0.1:{streams}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location /v1/ {{ proxy_pass http://posts; }}
    location /streams/ {{ proxy_pass http://streams/; proxy_buffering off; proxy_read_timeout 600s; }}
  }}
"""


SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
"""Debian keeps servers where an ordinary user does not look."""


def is_missing() -> bool:
    return not (shutil.which("nginx", path=SYSTEM_PATH) and shutil.which("wrk"))


@contextmanager
def nginx(folder: Path, body: str, *, core: int, port: int) -> Generator[int]:
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(SHARED.format(folder=folder, body=body))
    command = (shutil.which("nginx", path=SYSTEM_PATH) or "nginx", "-p", str(folder), "-c", str(config))
    with started(command, core=core, port=port, log=folder / "nginx.log") as pid:
        yield pid


@contextmanager
def upstreams(folder: Path, core: int) -> Generator[Subject]:
    """Both upstreams, as the subject that no proxy stands before. Its pid is the streaming one's."""
    posts, streams = free_port(), free_port()
    program = (sys.executable, "-m", "bench.relay.upstream", str(streams))
    with (
        nginx(folder / "upstream", UPSTREAM.format(port=posts), core=core, port=posts),
        started(program, core=core, port=streams, log=folder / "upstream.log") as pid,
    ):
        yield Subject(DIRECT, pid, Address(posts), Address(streams))


@contextmanager
def proxy(folder: Path, direct: Subject, core: int) -> Generator[Subject]:
    port = free_port()
    body = PROXY.format(port=port, posts=direct.posts.port, streams=direct.streams.port)
    with nginx(folder / "nginx", body, core=core, port=port) as pid:
        yield Subject(NGINX, pid, Address(port), Address(port, "/streams/v1/chat/completions"))
