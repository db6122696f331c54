"""The first rota.yaml of an app, with comments that teach; core.specfile fills it in and checks it."""

from __future__ import annotations

import json
from collections.abc import Sequence

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


def written(name: str, command: Sequence[str]) -> str:
    """The file's text; ``name`` stands in it as it is given, with quotes where YAML needs them."""
    return _TEXT.format(name=name, command=json.dumps(list(command), ensure_ascii=False))
