"""The command `music-cloud`."""

from __future__ import annotations

import errno
import sys

from rich.console import Console
from rich.markup import escape

from cli.app import app
from cli.errors import ConsoleRefused, ConsoleUnreachable, Exit
from common.errors import ConfigurationError, MusicCloudError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def main() -> None:
    """Run the command; expected errors become one sentence and an exit status."""
    try:
        app()
    except MusicCloudError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(error.message)}")
        if isinstance(error, ConfigurationError):
            sys.exit(Exit.USAGE)
        sys.exit(Exit.UNREACHABLE if isinstance(error, ConsoleUnreachable | ConsoleRefused) else Exit.FAILED)
    except BrokenPipeError:
        # The reader of our output went away, for instance `| head`.
        sys.stderr.close()
        sys.exit(Exit.OK)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        print(
            f"error: Nothing can be written below ROOT_DIR ({error.strerror}). Free some space or mend the disk, "
            "and start again; what is stored stays.",
            file=sys.stderr,
        )
        sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
