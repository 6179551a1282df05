"""The command `topo`, which is also `python -m topo`."""

from __future__ import annotations

import gc


def main() -> None:
    """The entry point of the installed command."""
    gc.disable()  # a command is over before collecting cycles pays, among its modules and among its many facts
    from topo.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
