"""Package data: the YAML that connects MONAI components. No Python lives here; `pipeline.bundle.configs` reads it."""
