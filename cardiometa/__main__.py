"""``python -m cardiometa`` is the ``cardiometa`` script."""

from .cli.main import main

if __name__ == "__main__":
    main()
