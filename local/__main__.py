"""`python -m local`: the same as the `stripemeter` command."""

from local.cli import main

if __name__ == "__main__":
    main()
