"""`python -m expfw` is `expfw`."""

from expfw.cli import entry

if __name__ == "__main__":
    entry()
