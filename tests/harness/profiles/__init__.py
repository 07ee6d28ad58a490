"""The profiles of the venues, a module each; `tests.harness.venue_profiles` has them by name."""
