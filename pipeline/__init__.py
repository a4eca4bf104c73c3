"""unet-pipeline: a labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.

The verbs of the command line are functions here, with typed results:

    import pipeline
    pipeline.plan("Task04_Hippocampus", "hippocampus", preset="quick")
    pipeline.train("hippocampus")
    pipeline.evaluate("hippocampus").summary

They are imported when first used (`__init__.pyi` says from where), so that `import pipeline` takes no time.
"""

import lazy_loader

# the only place where it is written: the distribution's metadata take it from here, and a source tree has none
__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
