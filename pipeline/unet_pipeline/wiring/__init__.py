"""Package data: the YAML that connects MONAI components. No Python lives here; `unet_pipeline.bundle.configs` reads it."""
