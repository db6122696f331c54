"""The JSON Schema of rota.yaml, for editors that complete and check while one types; printed by ``rota schema``."""

from __future__ import annotations

from typing import Any

from rota.core.spec import AppSpec

DESCRIPTIONS = {
    "name": "The app's name: 1 to 40 of a-z, 0-9 and '-'.",
    "image": "The container image, such as ghcr.io/me/app:1.2 (rota serve --runtime docker).",
    "repository": "The image without its tag, such as ghcr.io/me/app.",
    "tag": "The image's tag, looked up once a release.",
    "digest": "The image's digest, sha256:…, instead of a tag.",
    "pull": "When the registry is asked: always, if_missing or never.",
    "registry": "Credentials, where the registry wants them.",
    "server": "The registry's host.",
    "username": "Who asks the registry.",
    "password": "The password or token of the one who asks.",
    "volumes": "What containers share with the host or keep: NAME:/path or /on/the/host:/path, with :ro only read.",
    "source": "A volume's name, or a path of the host.",
    "target": "Where the container has it.",
    "network": "One more network of the engine that containers join.",
    "container": "How far a container is shut in.",
    "init": "A small init is process 1 of the container; by default where the image brings none.",
    "pids": "The most processes that a replica may have.",
    "read_only": "It is only read: the container's root, or a volume.",
    "no_new_privileges": "No program in the container gains rights by setuid.",
    "capabilities": "All that root in the container may do.",
    "replicas": "How many replicas run, 1 to 1000.",
    "deployment_strategy": "rolling: one after the other, nobody notices. replace: all stop, then all start."
    " blue-green: all new ones start, then requests go to them at once.",
    "domains": "The host names that lead to the app; without any it is <name>.localhost.",
    "domain": "A host name; *.example.org stands for every name with one label more.",
    "aliases": "Names whose users are sent on to the domain.",
    "port": "The port of the app's container; as a process each replica gets a PORT of its own. Under ports: the"
    " replica's port, which as a process it finds in PORT_ and this number.",
    "ports": "TCP services of the app, beside its HTTP.",
    "listen": "Where their users come in: a port of 127.0.0.1, or an address and a port such as 0.0.0.0:5432.",
    "sni": "Only TLS clients that ask for one of these names are let in; nothing is decrypted.",
    "proxy_protocol": "Replicas are told the user's address ahead of the connection: true (v2), v1 or v2.",
    "accept_proxy": "Trusted proxies tell the user's address ahead of the connection.",
    "health_check_path": "The path that answers 2xx or 3xx while a replica can serve.",
    "health_check": "How a replica is checked, before it gets requests and while it does.",
    "type": "http: a request must be answered. tcp: a connection must be accepted. exec: a command must end with 0."
    " grpc: grpc.health.v1 must say SERVING. none: as tcp, and an image's own check is not made.",
    "path": "As health_check_path, which it goes before; under domains: only what is at or below it leads to the app.",
    "expect_body": "A text that the body of the answer has to have, in its first 8 KiB.",
    "service": "Whose gRPC health is asked; without it the whole server's.",
    "interval": "Time between checks.",
    "fast_interval": "Time between checks after a first failure.",
    "timeout": "How long a check may take; under drain: how long sessions, then open requests, may take to end.",
    "fall": "Failed checks in a row after which a replica gets no more requests.",
    "rise": "Passed checks in a row after which it gets requests again.",
    "start_period": "Extra time, beside boot_timeout, for the first checks to pass.",
    "start_interval": "Time between checks of a replica that has not been ready yet.",
    "min_ready_seconds": "How long a new replica must stay healthy before it gets requests, 0 to 600 seconds.",
    "boot_timeout": "How long a new replica may take until it accepts a connection on PORT.",
    "stop_grace_period": "Time between the stop signal and SIGKILL.",
    "stop_signal": "The signal that asks a replica to end.",
    "command": "The program and its arguments, run without a shell; $PORT is filled in.",
    "build_command": "Run once for each release, in the unpacked source directory.",
    "user": "The user that runs the app, when rota runs as root.",
    "env": "Variables of the app's environment; ${NAME} takes the value of another one.",
    "value": "The variable's value.",
    "resources": "Limits of each replica: memory and cpus, or cloudlets.",
    "memory": "Memory, such as 512MiB.",
    "cpus": "Processor cores, such as 0.5.",
    "cloudlets": "1 cloudlet is 128 MiB of memory and 400 MHz of CPU.",
    "overlap": "allow, or forbid: replicas of two generations never run at the same time.",
    "keep_old": "How long a blue-green rollout keeps the old replicas, to go back to them at once.",
    "rollout": "How a change goes through the replicas.",
    "rollback": "How a change is taken back; what is left out is as under rollout.",
    "update_config": "Compose's name of rollout.",
    "rollback_config": "Compose's name of rollback.",
    "mode": "sequential: one after the other, 30 s apart. simultaneous: all at once, with a gap.",
    "parallelism": "How many replicas change at a time: a number, or a share such as 25%.",
    "order": "start-first, stop-first, or in-place (restart the same replica).",
    "delay": "Time between a replica that is ready and the next one, 0 to 300 seconds; under restart: before the"
    " second try.",
    "min_available": "No voluntary step leaves fewer replicas serving than this.",
    "remove_from_dns": "Whether a replica leaves DNS, and its TTL passes, before it is relieved of its requests.",
    "failure_action": "What happens when a new replica fails: rollback, pause or continue.",
    "monitor": "How long after a rollout a failure still counts as its own.",
    "max_failure_ratio": "The share of new replicas that may fail, 0 to 1.",
    "progress_deadline": "The longest time without progress.",
    "balance": "Whom a request goes to: the next one, the one with the least open, any, always the same by address"
    " or, as a section, by the value of a header.",
    "weights": "What the replica of a slot gets of the requests, of 100, by the slot's number.",
    "sticky": "true: a cookie keeps each user on one replica while that is there.",
    "cookie": "The cookie's name, which must not be one that the app sets.",
    "max_age": "How long browsers keep the cookie; without it until they are closed.",
    "header": "Requests with the same value of this header go to the same replica.",
    "secure": "Browsers send the cookie over https alone.",
    "same_site": "Whether browsers send the cookie with requests that other sites make: lax, strict or none.",
    "error_pages": "Pages that HAProxy answers with where no replica does: 502, 503 or 504 and a file; 404 is for"
    " paths that no app has.",
    "status": "The answer's status.",
    "file": "The page, below the file's directory.",
    "text": "What the page holds.",
    "http": "What HAProxy allows of the app's requests.",
    "max_body": "The largest body of a request, such as 10MiB; a larger one is answered with 413.",
    "request_timeout": "How long a request's head and the first 16 KiB of its body may take; then 408.",
    "response_timeout": "How long a replica may say nothing before or within an answer; then 504.",
    "access_log": "Whether requests are in rota logs --access.",
    "idle_timeout": "How long a WebSocket, or under ports: a connection, may carry nothing.",
    "session_timeout": "A sticky app's sessions are over after so long without a request; at most drain.timeout.",
    "drain": "How a replica is relieved of its requests before it stops.",
    "warm_up": "What a new replica is spared while it is cold.",
    "requests": "How many requests rota itself sends to a new replica before users' are.",
    "slow_start": "Its share of the requests grows over this time, longer while it is slower than the others.",
    "restart": "How a replica that does not come up is tried again.",
    "attempts": "How often.",
    "max_delay": "The delay doubles up to this.",
    "repair": "What becomes of a replica that runs and is unhealthy.",
    "unhealthy_grace": "How long it may be unhealthy before it is replaced.",
    "max_at_once": "How many are replaced at a time.",
    "notify": "Where notices about the app are sent: apprise URLs, such as mailto://…, json://… or slack://….",
    "give_up": "Stop trying after the last attempt.",
}


SHORTHANDS = ("Image", "Volume")  # sections that can be written as one text, too


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) in which every key has a description."""
    schema = AppSpec.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, entry in section.get("properties", {}).items():
            entry["description"] = DESCRIPTIONS[key]
    for name in SHORTHANDS:
        schema["$defs"][name] = {"anyOf": [{"type": "string"}, schema["$defs"][name]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "rota.yaml"}
