"""The file that ``rota init`` writes: the smallest that deploys, and the keys that most apps come to want."""

from __future__ import annotations

TEXT = """\
# An app for rota. Check it with: rota validate   Deploy it with: rota deploy
name: hello
replicas: 3

# Executed without a shell, in a copy of this directory; each replica listens on the port given as $PORT.
command: ["python3", "-m", "http.server", "--bind", "127.0.0.1", "$PORT"]

# A replica gets requests only once this path answers with 2xx or 3xx.
health_check_path: /

# Without a domain the app is at http://hello.localhost:8080
# domains:
#   - domain: www.example.org

# env:
#   - name: GREETING
#     value: hello

# resources:
#   memory: 256MiB
#   cpus: 0.5
"""
