"""`python -m expfw` is `expfw`."""

from expfw.cli.main import entry

if __name__ == "__main__":
    entry()
