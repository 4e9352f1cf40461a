#!/usr/bin/env bash
# The tree is formatted, its includes point downwards, and no banned call is in it.
# test-options: no-sanitizers
exec python3 scripts/lint.py
