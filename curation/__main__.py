"""`python -m curation`, where the script is not on the path."""

from curation.cli import main

if __name__ == "__main__":
    main()
