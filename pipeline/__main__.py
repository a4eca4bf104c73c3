"""`python -m pipeline VERB`, the same as `unet-pipeline VERB`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
