"""The command's root: which commands there are, and what becomes of errors. Each command is loaded when used."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click
from click.exceptions import Exit

from ..errors import LoomError, SessionBusy
from . import exits
from .streams import code_of
from .text import printable

COMMANDS = {
    "run": "Give an agent one task and follow it to its end.",
    "chat": "Talk with an agent in a session that lasts.",
    "sessions": "List, read, resume, fork, export and delete sessions.",
    "models": "List the model services, and what is known of their models.",
    "doctor": "Say what works here: versions, keys, models, the session store.",
}
"""The commands and what ``loom --help`` says about them; each is ``command`` in the module of its name."""

_DEBUG = "loom.cli.debug"


def _note_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_note_debug,
    help="Show the traceback of an error.",
)


class LoomGroup(click.Group):
    """A group that loads a command when it is used, and turns errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the arguments; ``--help`` and ``--version`` write here, to a reader who may have left."""
        try:
            return super().make_context(*args, **options)
        except OSError as error:
            raise Exit(code_of(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. What may be expected to go wrong ends it with a line and a code, no traceback."""
        try:
            return super().invoke(ctx)
        except LoomError as error:
            hint = (
                "; one that died on another machine lets go within 15 seconds"
                if isinstance(error, SessionBusy)
                else ""
            )
            _complain(ctx, error, f"{error}{hint}")
            ctx.exit(exits.code_of_error(error))
        except (KeyboardInterrupt, click.Abort):
            click.echo("", err=True)
            ctx.exit(exits.CANCELLED)
        except OSError as error:
            if error.errno == errno.EPIPE:
                ctx.exit(code_of(error))  # whoever read our output has gone, which needs no words
            _complain(ctx, error, _words_of(error))
            ctx.exit(exits.FAILED)


def _words_of(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _complain(context: click.Context, error: Exception, text: str) -> None:
    if context.meta.get(_DEBUG):
        traceback.print_exception(error, file=sys.stderr)
    click.echo(f"error: {printable(text)}", err=True)


@click.group(cls=LoomGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("loom-agent"), prog_name="loom", message="%(prog)s %(version)s")
@debug_option
def command() -> None:
    """Agents on the command line: governed tools, durable sessions, a human in the loop.

    \b
    Try it, with no key and no network:
      loom run "Summarize this repository" --model offline

    \b
    Then with a model of your own:
      export ANTHROPIC_API_KEY=...       # or OPENAI_API_KEY, or a local Ollama
      loom run "What does the README promise that the tests do not check?"
      loom chat --session review

    \b
    Exit codes: 0 completed, 1 failed, 2 wrong usage or setup, 3 waiting for an answer,
    4 a limit was reached, 130 cancelled, 141 whoever read the output has left.
    """


def run(args: Sequence[str] | None) -> int:
    """Run the command with these arguments (None: those of the process); its exit code."""
    try:
        code = command.main(args, prog_name="loom", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return exits.CANCELLED
    except (
        SystemExit
    ) as left:  # how click answers a shell's completion, and leaves when nobody reads its help
        cause = left.__context__
        return code_of(cause) if isinstance(cause, OSError) else int(left.code or 0)
    return code if isinstance(code, int) else exits.COMPLETED
