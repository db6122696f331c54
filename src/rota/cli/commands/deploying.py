"""Commands about the file: deploy, validate, schema, init."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rota.cli import output, rollout
from rota.cli.commands.arguments import AsJson, File, example
from rota.cli.connection import Connection, View
from rota.cli.policy import Policy, taking
from rota.core.errors import Problem, SpecError, UsageError

if TYPE_CHECKING:
    from rota.core.fitness import RuntimeKind
    from rota.core.pages import ErrorPage
    from rota.core.spec import AppSpec

DEFAULT_FILE = Path("rota.yaml")
_MOST_BYTES = 16 * 2**20  # far over what a file may have: only keeps an endless one from filling the memory


def add_to(commands: typer.Typer) -> None:
    commands.command("deploy", epilog=example("rota deploy", "rota deploy -f shop/rota.yaml --detach"))(deploy)
    commands.command("validate", epilog=example("rota validate -f shop/rota.yaml"))(validate)
    commands.command("schema", epilog=example("rota schema > rota.schema.json"))(schema)
    commands.command("init", epilog=example("rota init"))(init)


@taking(Policy)
def deploy(file: File = DEFAULT_FILE, *, flags: Policy) -> None:
    """Deploy the app that a file describes, from the file's directory."""
    connection = Connection()
    app, order = deploy_order(connection, file, flags, upload=True)
    with placing(file):
        rollout.run(connection, app, order, flags)


def deploy_order(connection: Connection, file: Path, flags: Policy, *, upload: bool) -> tuple[str, View]:
    """The app's name and the order, its source packed, and sent to the server if that is to have it."""
    spec = read(file)
    _note_of_check(spec, file)
    _check(flags)
    with placing(file):
        spec = _with_pages(spec, file.resolve().parent)
    order = flags.order("deploy", spec=spec.model_dump(mode="json", exclude_unset=True))
    _fitting(spec, file, str(connection.get("/api/v1/server")["runtime"]))  # before the work of packing
    source = _packed(connection, file.resolve(), upload) if spec.image is None else None
    return spec.name, order | {"source": source}


@contextmanager
def placing(file: Path) -> Iterator[None]:
    """What the server finds wrong with the file is shown at its place in it."""
    from rota.core import specfile

    try:
        yield
    except SpecError as error:
        text = _text_of(file)
        raise SpecError([specfile.placed(problem, text, str(file)) for problem in error.problems]) from None


def validate(file: File = DEFAULT_FILE, json: AsJson = False) -> None:
    """Check a file without deploying it."""
    spec = read(file)
    _note_of_check(spec, file)
    _note_of_env(spec, file)
    output.answer_json(spec.model_dump(mode="json")) if json else output.answer(f"{file}: ok")


def schema(_json: AsJson = False) -> None:
    """Print the file's JSON schema, for editors: JSON in any case."""
    from rota.core.schema import json_schema

    output.answer_json(json_schema())


def init(file: File = DEFAULT_FILE) -> None:
    """Write a file to begin with; never over one that holds something."""
    from rota.core import specfile

    text = specfile.starter(_app_name(file.resolve().parent.name))
    try:
        with file.open("a", encoding="utf-8") as new:
            if new.tell():
                raise UsageError(f"{file} is there already and stays as it is")
            new.write(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    output.answer(f"{file} written; change it to fit, then: rota deploy")


def _app_name(directory: str) -> str:
    """A directory's name, bent into the form of an app's."""
    words = re.findall(r"[a-z0-9]+", directory.lower(), re.ASCII)
    return "-".join(words)[:40].rstrip("-") or "app"


def read(file: Path, runtime: RuntimeKind | None = None) -> AppSpec:
    """Raises SpecError, for a file that cannot be read too; with ``runtime`` also for what cannot run there."""
    from rota.core import specfile

    return specfile.parse(_text_of(file), str(file), runtime)


def _text_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES)
    except FileNotFoundError:
        raise SpecError([Problem("there is no such file; write one with: rota init", file=str(file))]) from None
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror}", file=str(file))]) from None


def _with_pages(spec: AppSpec, directory: Path) -> AppSpec:
    """What the error pages' files hold, in their places. Raises SpecError."""
    pages = tuple(page.model_copy(update={"text": _page(directory, page)}) for page in spec.error_pages)
    return spec.model_copy(update={"error_pages": pages}) if pages else spec


def _page(directory: Path, page: ErrorPage) -> str:
    from rota.core.pages import MAX_PAGE, page_text

    path = (directory / page.file).resolve()
    try:
        if not path.is_relative_to(directory):
            raise ValueError(f"it is a link that leads out of {directory}")
        with path.open("rb") as opened:
            return page_text(opened.read(MAX_PAGE + 1))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"error_pages: {page.file} cannot be used: {reason}"
        raise SpecError([Problem(message, key=f"error_pages.{page.status}")]) from None


def _fitting(spec: AppSpec, file: Path, runtime: str) -> None:
    """Raises SpecError for what the server's runtime cannot run, at its place, and names a key that other tools' files
    have and that means nothing there (H11)."""
    from rota.core.fitness import RuntimeKind, misfits

    kind = RuntimeKind(runtime)
    if misfits(spec, kind):
        read(file, kind)
    if spec.port is not None and kind is RuntimeKind.PROCESS:
        output.tell(f"{file}: note: port: {spec.port} is not used on the process runtime: the app listens on $PORT")
    _note_of_env(spec, file, ["ROTA_DATA"] if kind is RuntimeKind.PROCESS else [])


def _note_of_check(spec: AppSpec, file: Path) -> None:
    if note := spec.check.late_if_it_hangs():
        output.tell(f"{file}: note: {note}")


def _note_of_env(spec: AppSpec, file: Path, more: Sequence[str] = ()) -> None:
    """Names the variables that rota sets, whatever the file says (H11); ``more`` are the runtime's own."""
    from rota.core import specfile
    from rota.core.environment import unseen
    from rota.core.tcp import targets, variables

    reserved = [*variables(dict.fromkeys(targets(spec.ports), 0)), *more]
    for index, name in unseen(spec.env, reserved):
        said = f"note: env: rota sets {name} for each replica, and none sees this value"
        output.tell(str(specfile.placed(Problem(said, key=f"env.{index}.name"), _text_of(file), str(file))))


def _check(flags: Policy) -> None:
    """The server would refuse wrong flags too, but only after an upload."""
    from pydantic import ValidationError

    from rota.core.spec import RolloutOptions

    try:
        RolloutOptions.model_validate(flags.options())
    except ValidationError as error:
        mistakes = [f"--{str(entry['loc'][0]).replace('_', '-')}: {entry['msg']}" for entry in error.errors()]
        raise UsageError("\n".join(text.replace("Value error, ", "") for text in mistakes)) from None


def _packed(connection: Connection, file: Path, upload: bool) -> str:
    from rota.cli.pack import pack

    packed = pack(file.parent, described_by=file.name)
    try:
        if upload and not connection.exists(f"/api/v1/sources/{packed.digest}"):
            files = "1 file" if packed.files == 1 else f"{packed.files:,} files"
            output.tell(f"uploading {files}, {packed.size / 2**10:,.0f} KiB packed")
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(packed.size)}
            with packed.path.open("rb") as body:
                connection.send("POST", "/api/v1/sources", body, headers)
    finally:
        packed.path.unlink(missing_ok=True)
    return packed.digest
