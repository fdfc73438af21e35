"""The command line: ``python reproduce.py --help``; ``l2l`` where the package is installed."""

from l2l.suite.commands.command_line import main

if __name__ == "__main__":
    main()
