"""`python -m curation`, where the script is not on the path."""

from curation.cli import command

if __name__ == "__main__":
    command()
