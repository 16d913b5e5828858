"""``sandbox exec -- COMMAND``."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import typer

from sandbox import engine, paths, stacks
from sandbox.commands._run import incapable, say
from sandbox.commands.up import RecordOnly
from sandbox.errors import SandboxError

Stack = Annotated[str, typer.Option("--stack", "-s", help="The stack for commands that name none.")]


def exec_(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", show_default=False)],
    stack: Stack = "sandbox",
    record_only: RecordOnly = False,
) -> None:
    """Run a command with engine, twins, names and certificates of the sandbox; its exit code is kept.

    `pulumi` in it is the sandbox's: `exec -- pulumi preview --stack sandbox --expect-no-changes`. Where hosts
    run, the cloud's API answers it too, and it has a (fictional) account's key in its environment.
    """
    root = paths.root()
    real = not record_only and not incapable()
    with engine.session(root, real=real) as session:
        for name in stacks.stacks(root):
            try:
                session.ensure(name)
            except SandboxError as error:  # another stack's trouble is not this command's
                if name == stack:
                    raise
                say(f"{name}: {error}")
        session.resolve(stack, say)
        environment = session.environment | {
            "PULUMI_STACK": stack,
            "PATH": os.pathsep.join([str(engine.SHIM), session.environment["PATH"]]),
        }
        if shutil.which(command[0], path=environment["PATH"]) is None:
            raise SandboxError(f"{command[0]}: command not found", 127)
        answering: AbstractContextManager[None] = nullcontext()
        if real:
            from sandbox import internet
            from sandbox.internet import api
            from sandbox.internet.layout import Layout
            from sandbox.owner import owner

            account = owner(paths.state(root))
            environment |= internet.environment(root) | account.environment
            command = [*internet.inside(root), *command]
            answering = api.serve(Layout(root), session.store, account)
        with answering:
            code = session.run(command, environment)
    raise typer.Exit(code if code >= 0 else 128 - code)
