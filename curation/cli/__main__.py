"""`python -m curation.cli`, for environments without the script."""

from curation.cli import main

if __name__ == "__main__":
    main()
