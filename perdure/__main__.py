"""``python -m perdure`` is the same as ``perdure``."""

from perdure.cli import main

if __name__ == "__main__":
    main()
