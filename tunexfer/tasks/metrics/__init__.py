"""The metrics themselves, as the benchmarks define them: numbers in, numbers out, no files and no models."""
