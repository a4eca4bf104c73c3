"""Object stores: what an URL names is read into a bounded local cache, and results are uploaded whole. fsspec does the transfers."""
