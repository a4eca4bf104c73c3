"""The verbs of the command line as plain functions: each calls its stage and returns a typed result.

`import pipeline` offers them; the command line adds only parsing and printing. Where each is written says `__init__.pyi`, once for type
checkers and for this module. A verb is imported when it is first asked for, and torch,
monai and pandas, which take seconds, when it runs: a prediction does not wait for the planner, nor a check for either.

Each is marked with `boundary.guard`: what goes wrong with a file is a `PipelineError` for those who call it from Python too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
