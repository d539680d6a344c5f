"""Doubles for the tests of the functions: Google's services over real gRPC and HTTP, and models that are made up."""
