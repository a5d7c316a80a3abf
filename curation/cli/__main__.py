"""`python -m curation.cli`, for environments without the script."""

from curation.cli import command

if __name__ == "__main__":
    command()
