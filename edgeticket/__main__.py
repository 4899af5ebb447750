"""`python -m edgeticket`."""

from edgeticket.cli import main

if __name__ == "__main__":
    main(prog_name="edgeticket")
