"""`python -m atrium`."""

from atrium.cli import main

if __name__ == "__main__":
    main()
