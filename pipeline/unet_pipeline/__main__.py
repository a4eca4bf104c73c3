"""`python -m unet_pipeline VERB`, the same as `unet-pipeline VERB`."""

from unet_pipeline.cli import main

if __name__ == "__main__":
    main()
