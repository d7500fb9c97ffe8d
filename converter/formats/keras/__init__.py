"""Keras' weights and models, in HDF5 and in zips."""
