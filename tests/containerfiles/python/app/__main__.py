"""Greets; with --check, says that its package is there."""

import sys

import greeting

if __name__ == "__main__":
    if "--check" in sys.argv:
        assert greeting.greet("x") == "Hello, x!"
    else:
        print(greeting.greet("world"))
