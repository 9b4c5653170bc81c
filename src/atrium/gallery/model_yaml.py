"""One model's own YAML file: read into a configuration that knows the line of each of its words, and written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote, unquote

import yaml

from atrium.core.errors import ConfigError, Unsupported
from atrium.core.models import ModelConfig, Said
from atrium.core.requests import Sampling
from atrium.decisions.name_model import RULE, is_model_name
from atrium.dialects.llamacpp.template import ChatTemplate
from atrium.settings.model_yaml import ModelYaml, Parameters
from atrium.settings.read import Reader
from atrium.settings.yaml_text import Node, parse_yaml

SUFFIX = ".yaml"
MOST_STOPS = 16
ENDLESS = 2**31 - 1
SAMPLED = tuple(field.name for field in fields(Parameters))
PLAIN = ("system", "template", "context", "slots", "threads", "keep_alive", "context_policy", "pooling")
"""Keys that mean the same in the file and in the configuration, and are silent as None."""
WORDS = ("description", "license")


def file_name(model: str) -> str:
    return quote(model, safe=":+@ ") + SUFFIX


def read_text(path: Path) -> str:
    """Blocking. Raises ConfigError that names the file."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}") from None


def parse_said(text: str, path: Path) -> Said:
    """Raises ConfigError with file and line."""
    root = parse_yaml(text, path.name)
    read: ModelYaml = Reader(None).tree(ModelYaml, root, "")
    nodes: Mapping[str, Node] = root.value if isinstance(root.value, dict) else {}
    name = read.name or unquote(path.stem)
    check_name(name, nodes.get("name", root))
    if read.base and read.file:
        raise ConfigError(f"{nodes['file'].place}: 'file' and 'base' cannot both say what the model is made of")
    if len(read.parameters.stop) > MOST_STOPS or "" in read.parameters.stop:
        raise ConfigError(
            f"{place_of(nodes, 'parameters')}: 'parameters.stop' takes up to {MOST_STOPS} texts, none empty"
        )
    if read.template is not None:
        check_template(read.template, nodes["template"])
    folder = path.parent
    return Said(name, config_of(read, nodes, folder), read.base or "", str(folder / read.file) if read.file else "")


def config_of(read: ModelYaml, nodes: Mapping[str, Node], folder: Path) -> ModelConfig:
    inner = nodes.get("parameters", Node({}, "")).value
    sampled: Mapping[str, Node] = inner if isinstance(inner, dict) else {}
    origins = {name: node.place for name, node in (*nodes.items(), *sampled.items())}
    projector = read.projector
    return ModelConfig(
        system=read.system,
        messages=tuple((turn.role, turn.content) for turn in read.messages),
        template=read.template,
        sampling=Sampling(**{name: getattr(read.parameters, name) for name in SAMPLED}),
        context=read.context,
        slots=read.slots,
        threads=read.threads,
        keep_alive=read.keep_alive,
        context_policy=read.context_policy,
        aliases=read.aliases,
        pooling=read.pooling,
        projector=str(folder / projector) if projector else projector,
        license=read.license,
        description=read.description,
        origins={name: place for name, place in origins.items() if name not in ("parameters", "name", "base", "file")},
    )


def check_name(name: str, node: Node) -> None:
    if not is_model_name(name):
        raise ConfigError(f"{node.place}: {RULE}")


def check_template(source: str, node: Node) -> None:
    try:
        ChatTemplate(source)
    except Unsupported as error:
        raise ConfigError(f"{node.place}: 'template': {error.message}") from None


def place_of(nodes: Mapping[str, Node], key: str) -> str:
    return nodes[key].place if key in nodes else key


def as_yaml(said: Said) -> str:
    """A file that reads back as the same."""
    config = said.config
    told: dict[str, object] = {"name": said.name, "base": said.base, "file": said.file}
    told |= {name: getattr(config, name) for name in WORDS}
    told = {name: value for name, value in told.items() if value}
    told |= {name: value for name in PLAIN if (value := getattr(config, name)) is not None}
    if config.messages:
        told["messages"] = [{"role": role, "content": content} for role, content in config.messages]
    sampling = {name: getattr(config.sampling, name) for name in SAMPLED}
    sampling["stop"] = list(config.sampling.stop)
    parameters = {name: value for name, value in sampling.items() if value is not None and value != []}
    if parameters:
        told["parameters"] = parameters
    if config.aliases:
        told["aliases"] = list(config.aliases)
    if config.projector is not None:
        told["projector"] = config.projector
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=ENDLESS)
