"""``python -m converter``: the command line."""

from converter.cli import main

if __name__ == "__main__":
    main()
