"""The command line: arguments in, words or JSON out. It calls the Python API and decides nothing."""
