"""The networks: one module each, one row each in `table.py`, and `counting.py`, which counts them from the module itself.

A module runs by itself with what it imports beside it, because `plan` copies both into the bundle, where inference must not need this
package. Imports among them are therefore relative.
"""
