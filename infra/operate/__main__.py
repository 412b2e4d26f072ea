"""`python -m infra.operate`: commands for whoever runs a deployment."""

from infra.operate.cli import main

if __name__ == "__main__":
    # The command `stripemeter` becomes this one, and is what people type.
    main(prog_name="stripemeter")
