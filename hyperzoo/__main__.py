"""`python -m hyperzoo`, and the console scripts."""

from hyperzoo.packages import import_packages


def main() -> None:
    """As `python run.py`."""
    import_packages()
    import run

    run.main()


def sweep() -> None:
    """As `python sweep.py`."""
    import_packages()
    import sweep

    sweep.main()


if __name__ == "__main__":
    main()
