"""The verbs of the command line as plain functions, one file each: a verb calls its stage and returns a typed result.

`import unet_pipeline` offers them, each inside `boundary.guard`; the command line adds only parsing and printing. torch, monai and
pandas, which take seconds, are imported when a verb runs: a prediction does not wait for the planner, nor a check for either.
"""
