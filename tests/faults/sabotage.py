"""Workers whose trainers break from the inside; ``saboteur/sitecustomize.py`` says how."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_path() -> str:
    """A PYTHONPATH under which the interpreters of a stack load the saboteur, and find its modules."""
    saboteur = Path(__file__).with_name("saboteur")
    return os.pathsep.join([str(saboteur), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
