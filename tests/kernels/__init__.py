"""Other kernels: run a command under User-Mode Linux, with the host's file system as its root (`python -m tests.kernels`)."""
