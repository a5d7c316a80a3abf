from curation.cli.jobs import main

if __name__ == "__main__":
    main()
