"""The first rota.yaml of an app, with comments that teach; written by ``rota init``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rota.core.errors import SpecError
from rota.core.specfile import parse

_TEXT = """\
# How rota runs this app. `rota deploy` starts it; `rota validate` checks this file.
name: {name}

# Run without a shell in this directory. Each replica has a PORT of its own and must listen there;
# $PORT is filled in here too.
command: {command}

# With 2 or more, deploys and restarts change one at a time and nobody notices.
replicas: 3

# Asked before a replica gets requests, and all the time after. Without a path only a connection is tried.
# health_check_path: /health

# Without a domain the app is at http://{name}.localhost, on the port of `rota serve --http`.
# domains:
#   - domain: www.example.org

# All of the environment that the app sees, beside PATH, PORT and ROTA_...; ${{NAME}} takes another one's value.
# env:
#   - name: GREETING
#     value: hello

# Limits of each replica.
# resources:
#   memory: 256MiB
#   cpus: 0.5
"""


def starter(name: str, command: Sequence[str]) -> str:
    """A file that is valid as it stands; raises SpecError when the name or the command is not."""
    words = json.dumps(list(command), ensure_ascii=False)
    plain = _TEXT.format(name=name, command=words)
    if _names(plain) == name:
        return plain
    # YAML takes 1 for a number and no for false: quotes make them names.
    in_quotes = _TEXT.format(name=json.dumps(name), command=words)
    parse(in_quotes)
    return in_quotes


def _names(text: str) -> str | None:
    try:
        return parse(text).name
    except SpecError:
        return None
