"""`python -m topo` is `topo`."""

from topo.cli.main import main

if __name__ == "__main__":
    main()
