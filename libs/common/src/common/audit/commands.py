"""Commands that mend, as they can be typed on the machine: also from one of our containers, whose paths only it has."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from common.audit.mounts import mount_of, read_mounts

CONTAINER_VARIABLE = "MUSIC_CLOUD_CONTAINER"
"""Set in our images; what engines leave in a container is also found in machines that were made from one."""


def in_container() -> bool:
    """Whether this is one of our containers, whose paths and ports are not those of the machine."""
    return bool(os.environ.get(CONTAINER_VARIABLE))


def command(*words: str | Path, root: bool = False) -> str:
    """A program with its arguments, quoted. ``root``: it needs the rights of root.

    From a container it runs in one that has the same folders: `tools`, or `init`, which is root.
    """
    program, *rest = map(str, words)
    if not in_container():
        return shlex.join([*(("sudo",) if root else ()), program, *rest])
    # -T: without a terminal of its own, so that the answer can be piped.
    where = "init" if root else "tools"
    return shlex.join(["docker", "compose", "run", "--rm", "-T", "--entrypoint", program, where, *rest])


def ours(*words: str | Path, program: str = "music-cloud") -> str:
    """The command line of ours, or of a service (``program``)."""
    name = "tools" if program == "music-cloud" else program
    return shlex.join(
        [*(("docker", "compose", "run", "--rm", name) if in_container() else (program,)), *map(str, words)]
    )


def init_command() -> str:
    """What makes the secrets that are missing; in containers folders and their owners, too."""
    return "docker compose run --rm init" if in_container() else "music-cloud init"


def edit_settings() -> str:
    """What opens the file of settings; which setting to change, a person decides."""
    return f'"${{EDITOR:-vi}}" {"config/" if in_container() else ""}music-cloud.env'


def start_newer() -> str:
    """What brings the program up to date where a newer one was at work before."""
    return f"git pull && {'docker compose up -d --build --wait' if in_container() else 'make setup'}"


def owner_command(folder: Path, *, all: bool = False) -> str:
    """What gives a folder to us. ``all``: it is ROOT_DIR, of which `init` knows what in it is ours."""
    if all and in_container():
        return init_command()
    return command("chown", "-R", f"{os.geteuid()}:{os.getegid()}", folder, root=True)


def what_fills(folder: Path) -> str:
    """What shows the largest folders of a disk."""
    return f"{command('du', '-xh', '--max-depth=2', folder, root=True)} | sort -h | tail"


def on_machine(folder: Path) -> str:
    """A folder as a word for a shell of the machine; the engine knows where that of a container lies there."""
    if not in_container():
        return shlex.quote(str(folder))
    mount = mount_of(folder, read_mounts())
    point = mount.point if mount is not None else str(folder)
    form = f'{{{{range .Mounts}}}}{{{{if eq .Destination "{point}"}}}}{{{{.Source}}}}{{{{end}}}}{{{{end}}}}'
    # The service that has the music mounted; what is ours, `init` has.
    service = "collector" if point == "/music" else "init"
    return f"\"$(docker inspect -f '{form}' $(docker compose ps -aq {service} | head -n 1))\""
